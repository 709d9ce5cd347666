# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates among many texts: pairs are proposed by MinHash with banding, and settled exactly (Broder 1997)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from reticent.core.record import Record
from reticent.data.dedup.dropped import Deduplication, leave_out
from reticent.data.dedup.near import Indices, gram_hashes, mix, of_records, pairs_alike

ROWS, BANDS = 3, 42
"""Two texts of Jaccard similarity J are proposed with chance 1 - (1 - J^3)^42: 0.996 at 0.5, 0.04 at 0.1."""
CROWD = 64
"""In a bucket of more texts than this, each is only held against the first and the one before it: a form letter that
thousands sent would otherwise be compared with itself millions of times."""


def drop_near_duplicates_by_minhash(records: Sequence[Record]) -> Deduplication:
    """As `drop_near_duplicates`, in time that grows with the texts and not with the pairs of texts.

    What is dropped is a near-duplicate by the same rule. What is not may be one: with a chance of at most 0.004 for a
    pair of Jaccard similarity 0.5 or more, and more often where one text is a small part of another.
    """
    return leave_out(records, minhash_originals(records), "near")


def minhash_originals(records: Sequence[Record]) -> Indices:
    """``[N]``: the place of the first earlier record that was found to be alike; -1 for none."""
    original = np.full(len(records), len(records), dtype=np.int64)
    if len(records) > 1:
        whole, trained = of_records(records)
        pairs = _proposed(signatures([record.plain for record in records]))
        later, earlier = np.divmod(pairs, len(records))
        alike = pairs_alike(whole, later, earlier)
        if trained is not None:
            alike[alike] = pairs_alike(trained, later[alike], earlier[alike])
        np.minimum.at(original, later[alike], earlier[alike])
    return np.where(original < len(records), original, -1)


def signatures(texts: Sequence[str], *, hashes: int = ROWS * BANDS, seed: int = 0) -> npt.NDArray[np.uint64]:
    """``[texts, hashes]``: the least value of each random function over the 5-grams of a text. Two texts have the same
    value in a share of columns that is, on average, the Jaccard similarity of their sets."""
    gram_sets = gram_hashes(texts)
    starts = np.concatenate([[0], np.cumsum([len(of_text) for of_text in gram_sets])])[:-1]
    every = np.concatenate(gram_sets)
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 2**63, size=hashes, dtype=np.uint64) | np.uint64(1)
    shifts = rng.integers(0, 2**63, size=hashes, dtype=np.uint64)
    out = np.empty((len(texts), hashes), dtype=np.uint64)
    for column, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
        out[:, column] = np.minimum.reduceat((every ^ shift) * factor, starts)
    return out


def _proposed(of_texts: npt.NDArray[np.uint64]) -> Indices:
    """``[P]`` pairs that share a band, once each, as ``later * N + earlier``."""
    n = len(of_texts)
    pairs = [np.zeros(0, dtype=np.int64)]
    for band in range(0, ROWS * BANDS, ROWS):
        key = np.zeros(n, dtype=np.uint64)
        for column in range(band, band + ROWS):
            key = mix(key + of_texts[:, column])  # another text of the same key by chance is settled like the others
        order = np.argsort(key, kind="stable")
        first = np.flatnonzero(np.diff(key[order]) != 0) + 1
        starts, ends = np.concatenate([[0], first]), np.concatenate([first, [n]])
        for start, end in np.stack([starts, ends], axis=1)[ends - starts > 1]:
            pairs += [later * n + earlier for later, earlier in _within(order[start:end])]
    return np.unique(np.concatenate(pairs))


def _within(texts: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of one bucket, whose texts are rising: later and earlier."""
    if len(texts) <= CROWD:
        later, earlier = np.tril_indices(len(texts), -1)
        yield texts[later], texts[earlier]
    else:
        yield texts[1:], np.full(len(texts) - 1, texts[0])
        yield texts[1:], texts[:-1]
