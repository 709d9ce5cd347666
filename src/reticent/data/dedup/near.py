# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates between two sets of texts or within one, exactly, by word 5-grams."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

WORDS = 5
JACCARD = 0.5
CONTAINMENT = 0.8
MIN_CONTAINED = 10
"""A text of fewer 5-grams than this is not called a duplicate for being contained: a greeting is in many mails."""

_TOKEN = re.compile(r"\w+")
_BLOCK = 512


def near_duplicates(texts: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of ``texts`` have a near-duplicate among ``others``: ``[len(texts)]`` bool.

    Two texts are near-duplicates when the Jaccard similarity of their sets of 5-grams of lower-cased words is at least
    0.5, or when at least 0.8 of the smaller set is in the larger and the smaller has 10 or more. A text of fewer than
    five words counts as one gram. Nothing is sampled: the counts of shared grams are a sparse matrix product. Grams
    are compared by 64-bit hashes, so a false match has a chance of about 1e-12 at a million grams.
    """
    if not texts or not others:
        return np.zeros(len(texts), dtype=bool)
    grams = _grams([*texts, *others])
    found = np.zeros(len(texts), dtype=bool)
    for row, _ in _alike(grams[: len(texts)], grams[len(texts) :]):
        found[row] = True
    return found


def near_copies(texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of ``texts`` have a near-duplicate (see `near_duplicates`) before them, itself a copy or not: ``[N]``
    bool. Without them no two are alike."""
    found = np.zeros(len(texts), dtype=bool)
    grams = _grams(texts) if texts else None
    for row, column in _alike(grams, grams) if grams is not None else ():
        found[row[column < row]] = True
    return found


def _alike(left: csr_array, right: csr_array) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Rows of ``left`` and of ``right`` that are near-duplicates, pair by pair, a block of ``left`` at a time."""
    shared_only = (left.sum(axis=0) > 0) & (right.sum(axis=0) > 0)
    n_left, n_right = left.sum(axis=1), right.sum(axis=1)
    left, right = left[:, shared_only], right[:, shared_only].T.tocsr()
    for start in range(0, left.shape[0], _BLOCK):
        common = (left[start : start + _BLOCK] @ right).tocoo()
        row, column = common.coords
        row = row + start
        a, b = n_left[row], n_right[column]
        smaller = np.minimum(a, b)
        alike = common.data >= JACCARD * (a + b - common.data)
        alike |= (common.data >= CONTAINMENT * smaller) & (smaller >= MIN_CONTAINED)
        yield row[alike], column[alike]


def _grams(texts: Sequence[str]) -> csr_array:
    """``[texts, distinct grams]`` of ones."""
    number: dict[str, int] = {}
    multiplier = np.random.default_rng(0).integers(1, 2**63, size=WORDS, dtype=np.uint64) | np.uint64(1)
    hashes = []
    for text in texts:
        words = [number.setdefault(word, len(number) + 1) for word in _TOKEN.findall(text.lower())]
        padded = np.array(words + [0] * (WORDS - len(words)), dtype=np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(padded, WORDS)
        hashes.append(np.unique(_mix(windows * multiplier).sum(axis=1, dtype=np.uint64)))
    lengths = np.array([len(found) for found in hashes])
    names, column = np.unique(np.concatenate(hashes), return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return csr_array(
        (np.ones(len(column), dtype=np.int32), column.astype(np.int32), offsets.astype(np.int32)),
        shape=(len(texts), len(names)),
    )


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble the bits (the finisher of splitmix64), so that sums of products do not collide by structure."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
