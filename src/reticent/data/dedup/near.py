# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates between two sets of texts or within one, exactly, by word 5-grams. `minhash` is for many texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from reticent.core.record import Record
from reticent.data.dedup.boilerplate import GroupedTexts, grouped
from reticent.data.dedup.dropped import Deduplication, leave_out
from reticent.data.dedup.earliest import earliest, groups_of
from reticent.data.words import units

WORDS = 5
JACCARD = 0.5
CONTAINMENT = 0.8
MIN_CONTAINED = 10
"""A text of fewer 5-grams than this is not called a duplicate for being contained: a greeting is in many mails."""

Indices = npt.NDArray[np.int64]

_BLOCK = 512
_PAIRS = 2**16


def near_duplicates(texts: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
    """``[len(texts)]`` bool, True where a text has a near-duplicate among ``others``.

    Two texts are near-duplicates when the Jaccard similarity of their sets of 5-grams of lower-cased words is at least
    0.5, or when at least 0.8 of the smaller set is in the larger and the smaller has 10 or more. A text of fewer than
    five words counts as one gram. Where a script has no blanks (Chinese, Japanese, Thai, ...) each character is a word,
    and in a text without words each symbol, such as an emoji (see `data.words.units`). Nothing is sampled: the counts
    of shared grams are a sparse matrix product, and grams that very many texts hold are counted by groups of texts (see
    `boilerplate`). Grams are compared by 64-bit hashes, so a false match has a chance of about 1e-12 at a million
    grams.
    """
    if not texts or not others:
        return np.zeros(len(texts), dtype=bool)
    both = grams([*texts, *others])
    left, right = both[: len(texts)], both[len(texts) :]
    groups = grouped(left, right)
    if groups is None:
        is_near = np.zeros(len(texts), dtype=bool)
    else:
        is_near = groups.alike(left.sum(axis=1), right.sum(axis=1), _rule, least=MIN_CONTAINED)
    for row, _ in _alike(left, right, groups):
        is_near[row] = True
    return is_near


def drop_near_duplicates(records: Sequence[Record]) -> Deduplication:
    """Leave out records that nearly repeat an earlier one, left out or not: no two of those that are left are alike.

    Records are alike when they are near-duplicates (see `near_duplicates`) both as a whole and in what is trained on:
    neither a long prompt that all records share nor a short answer to different questions makes a copy.

    Examples:
        >>> words = "the parcel that I ordered in March came late and the box was torn at one corner".split()
        >>> mails = [Record(id="a", text=" ".join(words)), Record(id="b", text=" ".join([*words, "again"]))]
        >>> [record.id for record in drop_near_duplicates(mails).records]
        ['a']
    """
    return leave_out(records, near_originals(records), "near")


def near_originals(records: Sequence[Record]) -> Indices:
    """``[N]``: the place of the first earlier record that is alike; -1 for none.

    A pair that is alike is listed for a gram that is not common, in one of the respects in which the records are
    compared, or is alike by common grams alone in all of them (see `earliest`).
    """
    if len(records) < 2:
        return np.full(len(records), -1, dtype=np.int64)
    whole, trained = of_records(records)
    respects = [whole] if trained is None else [whole, trained]
    groups = groups_of(respects)
    groupings = [group for group in groups if group is not None]
    if len(groupings) == len(groups):
        original, listed = earliest(respects, groupings, _rule, least=MIN_CONTAINED), list(range(len(groups)))
    else:  # no gram of this respect is common, so each pair that is alike is listed for it
        original, listed = np.full(len(records), len(records), dtype=np.int64), [groups.index(None)]
    for respect in listed:
        others = [of_texts for place, of_texts in enumerate(respects) if place != respect]
        _note_listed(original, respects[respect], groups[respect], others)
    return np.where(original < len(records), original, -1)


def _note_listed(
    original: Indices, of_texts: csr_array, groups: GroupedTexts | None, others: Sequence[csr_array]
) -> None:
    """Lower ``original`` to the first earlier text that is alike of those that are listed, in place."""
    for row, column in _alike(of_texts, of_texts, groups):
        sooner = (column < row) & (column < original[row])
        a, b = row[sooner], column[sooner]
        for other in others:
            agreed = pairs_alike(other, a, b)
            a, b = a[agreed], b[agreed]
        np.minimum.at(original, a, b)


def of_records(records: Sequence[Record]) -> tuple[csr_array, csr_array | None]:
    """Grams of the whole records, and of what is trained on where that is less."""
    whole = grams([record.plain for record in records])
    if all(record.text is not None for record in records):
        return whole, None
    return whole, grams([record.trained_text for record in records])


def pairs_alike(of_texts: csr_array, a: Indices, b: Indices) -> npt.NDArray[np.bool_]:
    """``[P]``: whether texts ``a[p]`` and ``b[p]`` are near-duplicates.

    Args:
        of_texts: as `grams` gives them.
        a, b: ``[P]`` places of texts.
    """
    n = np.asarray(of_texts.sum(axis=1))
    common = np.zeros(len(a), dtype=np.int64)
    for start in range(0, len(a), _PAIRS):
        part = slice(start, start + _PAIRS)
        common[part] = of_texts[a[part]].multiply(of_texts[b[part]]).sum(axis=1)
    return _rule(common, n[a], n[b])


def _rule(common: Indices, a: Indices, b: Indices) -> npt.NDArray[np.bool_]:
    """From the number of shared grams and the numbers of grams."""
    smaller = np.minimum(a, b)
    contained = (common >= CONTAINMENT * smaller) & (smaller >= MIN_CONTAINED)
    return np.asarray((common >= JACCARD * (a + b - common)) | contained, dtype=np.bool_)


def _alike(left: csr_array, right: csr_array, groups: GroupedTexts | None = None) -> Iterator[tuple[Indices, Indices]]:
    """Rows of ``left`` and of ``right`` that are near-duplicates, pair by pair, a block of ``left`` at a time.

    With ``groups``: of the pairs that share a gram that is not a common one.
    """
    listed = (left.sum(axis=0) > 0) & (right.sum(axis=0) > 0)
    if groups is not None:
        listed &= ~groups.common
    n_left, n_right = left.sum(axis=1), right.sum(axis=1)
    left, right = left[:, listed], right[:, listed].T.tocsr()
    for start in range(0, left.shape[0], _BLOCK):
        common = (left[start : start + _BLOCK] @ right).tocoo()
        row, column = common.coords
        row = row + start
        shared = common.data if groups is None else common.data + groups.of_pairs(row, column)
        alike = _rule(shared, n_left[row], n_right[column])
        yield row[alike], column[alike]


def grams(texts: Sequence[str]) -> csr_array:
    """``[texts, distinct grams]`` of ones."""
    hashes = gram_hashes(texts)
    offsets = np.concatenate([[0], np.cumsum([len(of_text) for of_text in hashes])])
    every = np.concatenate(hashes)
    del hashes
    # As np.unique with its inverse, in less than half of the memory: this is the largest moment of the whole search.
    order = np.argsort(every)
    every = every[order]
    number = np.zeros(len(every), dtype=np.int32)
    np.cumsum(every[1:] != every[:-1], out=number[1:])
    del every
    column = np.empty_like(number)
    column[order] = number
    return csr_array(
        (np.ones(len(column), dtype=np.int32), column, offsets.astype(np.int32)),
        shape=(len(texts), int(number[-1]) + 1),
    )


def gram_hashes(texts: Sequence[str]) -> list[npt.NDArray[np.uint64]]:
    """For each text its distinct 5-grams of lower-cased words, hashed, rising; at least one."""
    number: dict[str, int] = {}
    multiplier = np.random.default_rng(0).integers(1, 2**63, size=WORDS, dtype=np.uint64) | np.uint64(1)
    hashes = []
    for text in texts:
        words = [number.setdefault(word, len(number) + 1) for word in units(text)]
        padded = np.array(words + [0] * (WORDS - len(words)), dtype=np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(padded, WORDS)
        hashes.append(np.unique(mix(windows * multiplier).sum(axis=1, dtype=np.uint64)))
    return hashes


def mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble the bits (the finisher of splitmix64), so that sums of products do not collide by structure."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
