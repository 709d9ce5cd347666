# SPDX-License-Identifier: Apache-2.0
"""Likeness of texts by the words that they share: Jaccard similarity, and its mean over the nearest synthetic texts.

The similarity attack of The Canary's Echo (arXiv:2502.14921), with Jaccard similarity of sets of words and k = 25.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
Cut = Sequence[Sequence[str]]

NEAREST = 25
"""Synthetic texts that a record is compared with, as published."""
BLOCK = 256
"""Texts of one side that are in memory at a time, beside all of the other."""


def likeness_scores(records: Cut, synthetic: Cut, *, nearest: int = NEAREST) -> Floats:
    """``[N]``: mean Jaccard similarity of each record to its ``nearest`` synthetic texts; higher = more alike.

    Args:
        records: words of each (`reticent.auditing.synthetic.text_pairs.cut`).
        synthetic: words of the synthetic texts; all of them count where they are fewer.
        nearest: how many.

    Examples:
        >>> likeness_scores([["a", "b"], ["c"]], [["a", "b"], ["a"]], nearest=1).tolist()
        [1.0, 0.0]
    """
    count = min(nearest, len(synthetic))
    parts = [np.sort(block, axis=1)[:, -count:].mean(axis=1) for block in jaccard_blocks(records, synthetic)]
    return np.concatenate(parts) if parts else np.zeros(0)


def nearest_shares(synthetic: Cut, records: Cut) -> Floats:
    """``[N]``: how many synthetic texts have each record as their nearest; equally near ones share a text.

    Texts that share no word with any record count for none.

    Examples:
        >>> nearest_shares([["a", "b"], ["c"]], [["a"], ["b"], ["d"]]).tolist()
        [0.5, 0.5, 0.0]
    """
    shares = np.zeros(len(records))
    for block in jaccard_blocks(synthetic, records):
        top = block.max(axis=1, keepdims=True)
        first = (block == top) & (top > 0)
        shares += (first / np.maximum(first.sum(axis=1, keepdims=True), 1)).sum(axis=0)
    return shares


def jaccard_blocks(rows: Cut, columns: Cut) -> Iterator[Floats]:
    """Jaccard similarities of all rows with all columns, ``[up to BLOCK, M]`` at a time. Two empty texts have 0."""
    number: dict[str, int] = {}
    left, right = _incidence(rows, number), _incidence(columns, number)
    shape = (len(number) or 1,)
    a = csr_array((np.ones(len(left[1])), left[1], left[0]), shape=(len(rows), *shape))
    b = csr_array((np.ones(len(right[1])), right[1], right[0]), shape=(len(columns), *shape)).T.tocsr()
    a_size, b_size = np.diff(left[0]), np.diff(right[0])
    for start in range(0, len(rows), BLOCK):
        shared = (a[start : start + BLOCK] @ b).toarray()
        either = a_size[start : start + BLOCK, None] + b_size[None, :] - shared
        yield shared / np.maximum(either, 1)


def _incidence(texts: Cut, number: dict[str, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row starts and columns of the matrix of texts and their distinct words."""
    places = [sorted({number.setdefault(word, len(number)) for word in words}) for words in texts]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in places])]).astype(np.int64)
    return starts, np.array([place for row in places for place in row], dtype=np.int64)


def naive_likeness_scores(records: Cut, synthetic: Cut, *, nearest: int = NEAREST) -> Floats:
    """`likeness_scores` text by text: the reference that the fast way is tested against.

    Examples:
        >>> naive_likeness_scores([["a", "b"], ["c"]], [["a", "b"], ["a"]], nearest=1).tolist()
        [1.0, 0.0]
    """
    scores = []
    for words in records:
        alike = sorted((_jaccard(set(words), set(other)) for other in synthetic), reverse=True)[:nearest]
        scores.append(sum(alike) / len(alike))
    return np.array(scores)


def _jaccard(left: set[str], right: set[str]) -> float:
    return len(left & right) / max(1, len(left | right))
