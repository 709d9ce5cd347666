# SPDX-License-Identifier: Apache-2.0
"""Texts that repeat or quote others, in one pass over all: an index of the phrases of the few that are asked for.

A phrase is five words in a row, lower-cased, as in `reticent.data.dedup`. Only phrases of the texts asked for are kept,
exactly and not by sketches, so nothing is missed as MinHash may miss a mail that is quoted in a longer one, and the
work grows with the words of the other texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from reticent.core.record import Record
from reticent.data.dedup.near import CONTAINMENT, JACCARD, MIN_CONTAINED, WORDS, mix
from reticent.data.words import units
from reticent.unlearning.normal_text import normal_text

Kind: TypeAlias = Literal["repeats", "quotes", "passage"]
KINDS: tuple[Kind, ...] = ("repeats", "quotes", "passage")
"""``repeats``: the same words and signs, or at least half of all phrases of the two; ``quotes``: at least 0.8 of the
phrases of a text of 14 words or more; ``passage``: 35 words in a row."""

PASSAGE = 31
"""Phrases in a row: 35 words, about the 200 characters from which `data.dedup.substring` counts a passage."""
MOST_HOLDERS = (10, 0.02, 100)
"""A phrase that more than a fiftieth of the users write, but at least 10 and at most 100, is a form of words (the
footer of a list, a disclaimer) and no quotation: few mails are quoted by so many."""
MOST_ROWS = 1_000
"""Likewise of rows, whoever wrote them: the footer of one busy sender would be held against itself a million times."""

_BLOCK = 2_000
_MULTIPLIERS = np.random.default_rng(1).integers(1, 2**63, size=WORDS, dtype=np.uint64) | np.uint64(1)

Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


class Overlap(NamedTuple):
    """A text that repeats or quotes one that is asked for.

    Args:
        other: its place among the other texts.
        asked: place of the text asked for that it shares most phrases with.
        kind: see ``KINDS``; the first that holds.
        share: part of the phrases of that text which it holds, 0 to 1. Forms of words are not counted.
        sources: places of all texts asked for that it repeats or quotes, or shares ``PASSAGE`` phrases with; rising.
    """

    other: int
    asked: int
    kind: Kind
    share: float
    sources: tuple[int, ...]


class Overlaps(NamedTuple):
    """Outcome of `overlaps`.

    Args:
        rows: at most one for each other text, in their order.
        form_letters: how many further texts share 35 words in a row or more, but mostly such as many users write.
    """

    rows: tuple[Overlap, ...]
    form_letters: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Hits:
    """Phrases of the index that stand in other texts: ``[H]`` text, place in it, and number of the phrase."""

    text: Indices
    place: Indices
    phrase: Indices
    phrases: Indices  # [texts]: how many phrases each text has, of the index or not


def overlaps(asked: Sequence[Record], others: Sequence[Record]) -> Overlaps:
    """The records of ``others`` that repeat or quote one of ``asked``.

    What is trained on is compared. A record of fewer than 14 such words counts only where the whole is the same: a
    greeting is in many mails, and a short answer answers many questions.

    Examples:
        >>> words = "the parcel that I ordered in March came late and the box was torn at one corner".split()
        >>> mail = Record(id="a", text=" ".join(words))
        >>> lines = [f"{n} sorry for it" for n in range(9)] + [f"> {word}" for word in words]
        >>> reply = Record(id="b", text="\\n".join(lines))
        >>> overlaps([mail], [reply]).rows
        (Overlap(other=0, asked=0, kind='quotes', share=1.0, sources=(0,)),)
    """
    if not asked or not others:
        return Overlaps((), 0)
    same = _same_text(asked, others)
    index = _Index.of([record.trained_text for record in asked])
    held = index.held([record.trained_text for record in others])
    is_form = _forms(index, held, asked, others)
    rows = {place: Overlap(place, alike[0], "repeats", 1.0, alike) for place, alike in same.items()}
    for overlap in _pairwise(index, held, is_form):
        earlier = rows.setdefault(overlap.other, overlap)
        if earlier is not overlap:
            sources = tuple(sorted({*earlier.sources, *overlap.sources}))
            rows[overlap.other] = earlier._replace(sources=sources)
    passages = set(_with_passage(held, np.ones(len(is_form), dtype=bool)))
    return Overlaps(tuple(rows[place] for place in sorted(rows)), len(passages - rows.keys()))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Index:
    """The phrases of the texts asked for.

    Args:
        number: word → number from 1.
        names: ``[P]`` hashes of the phrases, rising.
        holders: ``[asked, P]`` of ones.
    """

    number: dict[str, int]
    names: Hashes
    holders: csr_array

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Index:
        number: dict[str, int] = {}
        every, lengths = [], []
        for text in texts:
            numbers = np.array([number.setdefault(word, len(number) + 1) for word in units(text)], dtype=np.uint64)
            every.append(np.unique(_hashes(numbers)))
            lengths.append(len(every[-1]))
        names, column = np.unique(np.concatenate(every), return_inverse=True)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ones = np.ones(len(column), dtype=np.int32)
        return cls(number=number, names=names, holders=csr_array((ones, column, offsets), (len(texts), len(names))))

    def held(self, texts: Sequence[str]) -> _Hits:
        """Where phrases of the index stand in other texts."""
        parts = [self._block(texts[start : start + _BLOCK], start) for start in range(0, len(texts), _BLOCK)]
        text, place, phrase, phrases = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return _Hits(text=text, place=place, phrase=phrase, phrases=phrases)

    def _block(self, texts: Sequence[str], first: int) -> tuple[Indices, Indices, Indices, Indices]:
        number = self.number
        numbers = [[number.get(word, 0) for word in units(text)] for text in texts]
        sizes = np.array([len(words) for words in numbers], dtype=np.int64)
        phrases = np.maximum(sizes - WORDS + 1, 0)
        ends = np.cumsum(sizes + 1)  # a word that is none (0) stands behind each text
        flat = np.zeros(int(ends[-1]), dtype=np.uint64)
        for words, end in zip(numbers, ends.tolist(), strict=True):
            flat[end - 1 - len(words) : end - 1] = words
        empty = np.zeros(0, dtype=np.int64)
        if len(flat) < WORDS or not len(self.names):
            return empty, empty, empty, phrases
        windows = np.lib.stride_tricks.sliding_window_view(flat, WORDS)
        starts = np.flatnonzero((windows > 0).all(axis=1))
        hashes = _hash(windows[starts])
        phrase = np.minimum(np.searchsorted(self.names, hashes), len(self.names) - 1)
        there = self.names[phrase] == hashes
        starts, phrase = starts[there], phrase[there].astype(np.int64)
        text = np.searchsorted(ends, starts, side="right")
        return text + first, starts - (ends - sizes - 1)[text], phrase, phrases


def _hashes(numbers: Hashes) -> Hashes:
    if len(numbers) < WORDS:
        return np.zeros(0, dtype=np.uint64)
    return _hash(np.lib.stride_tricks.sliding_window_view(numbers, WORDS))


def _hash(windows: Hashes) -> Hashes:
    """``[W]`` from ``[W, WORDS]``: 64 bits. Two of a million phrases are taken for one with a chance of 1e-7."""
    return np.asarray(mix(windows * _MULTIPLIERS).sum(axis=1, dtype=np.uint64))


def _same_text(asked: Sequence[Record], others: Sequence[Record]) -> dict[int, tuple[int, ...]]:
    """Places of other records that have the words and signs of some asked for, and the places of these."""
    places: dict[str, list[int]] = {}
    for place, record in enumerate(asked):
        places.setdefault(normal_text(record.plain), []).append(place)
    forms = ((place, normal_text(record.plain)) for place, record in enumerate(others))
    return {place: tuple(places[form]) for place, form in forms if form in places}


def _forms(index: _Index, held: _Hits, asked: Sequence[Record], others: Sequence[Record]) -> npt.NDArray[np.bool_]:
    """``[P]``: phrases that so many write that they are no quotation."""
    users: dict[str, int] = {}
    of_row = np.array(
        [
            -1 - row if record.user is None else users.setdefault(record.user, len(users))
            for row, record in enumerate([*asked, *others])
        ],
        dtype=np.int64,
    )
    _, writer = np.unique(of_row, return_inverse=True)
    stored = index.holders.tocoo()
    asked_row, asked_phrase = stored.coords
    row = np.concatenate([asked_row.astype(np.int64), held.text + len(asked)])
    phrase = np.concatenate([asked_phrase.astype(np.int64), held.phrase])
    least, share, most = MOST_HOLDERS
    n_writers = int(writer.max()) + 1
    too_many = min(max(least, int(share * n_writers)), most)
    writers = _distinct(phrase, writer[row], len(index.names))
    rows = _distinct(phrase, row, len(index.names))
    return (writers > too_many) | (rows > MOST_ROWS)


def _distinct(phrase: Indices, holder: Indices, n: int) -> Indices:
    """``[n]``: how many different holders each phrase has."""
    span = int(holder.max(initial=0)) + 1
    return np.bincount(_once(phrase * span + holder) // span, minlength=n)


def _once(numbers: Indices) -> Indices:
    """The different ones, rising: by a sort, which is several times as fast as the hash table of `numpy.unique`."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _pairwise(index: _Index, held: _Hits, is_form: npt.NDArray[np.bool_]) -> Iterator[Overlap]:
    """Overlaps of phrases that are no forms of words, the first kind first within each text."""
    passages = set(_with_passage(held, ~is_form, through=True))
    columns = np.flatnonzero(~is_form)
    if not len(columns):
        return
    holders = index.holders[:, columns]
    n_asked = np.asarray(holders.sum(axis=1)).ravel()
    by_phrase = holders.T.tocsr()
    column = np.full(len(is_form), -1, dtype=np.int64)
    column[columns] = np.arange(len(columns))
    n = len(held.phrases)
    n_other = held.phrases - np.bincount(held.text[is_form[held.phrase]], minlength=n)
    for start in range(0, n, _BLOCK):
        low, high = np.searchsorted(held.text, [start, start + _BLOCK])
        text, phrase = held.text[low:high], column[held.phrase[low:high]]
        row, shared = np.divmod(_once((text - start)[phrase >= 0] * len(columns) + phrase[phrase >= 0]), len(columns))
        if not len(row):
            continue
        ones = np.ones(len(row), dtype=np.int32)
        shape = (min(_BLOCK, n - start), len(columns))
        common = (csr_array((ones, (row, shared)), shape) @ by_phrase).tocsr()
        yield from _judged(common, start, n_asked, n_other, passages)


def _judged(common: csr_array, start: int, n_asked: Indices, n_other: Indices, passages: set[int]) -> Iterator[Overlap]:
    """The kind of each text of a block that has any.

    Args:
        common: ``[texts of the block, asked]`` numbers of shared phrases.
        start: place of the first text.
        n_asked, n_other: numbers of phrases, forms of words left out.
        passages: places of texts with a long passage.
    """
    for row in np.flatnonzero(np.diff(common.indptr)).tolist():
        part = slice(common.indptr[row], common.indptr[row + 1])
        of, shared = common.indices[part], common.data[part]
        place = start + row
        long = np.minimum(n_asked[of], n_other[place]) >= MIN_CONTAINED
        alike = (shared >= JACCARD * (n_asked[of] + n_other[place] - shared)) & long
        quoted = (shared >= CONTAINMENT * n_asked[of]) & (n_asked[of] >= MIN_CONTAINED)
        in_passage = np.full(len(of), place in passages)
        for kind, holds in zip(KINDS, (alike, quoted, in_passage), strict=True):
            if holds.any():
                best = int(np.lexsort((of, -shared, ~holds))[0])
                related = alike | quoted | (in_passage & (shared >= PASSAGE))
                related[best] = True
                share = float(min(1.0, shared[best] / n_asked[of[best]]))
                yield Overlap(place, int(of[best]), kind, share, tuple(np.sort(of[related]).tolist()))
                break


def _with_passage(held: _Hits, counted: npt.NDArray[np.bool_], *, through: bool = False) -> list[int]:
    """Texts with ``PASSAGE`` phrases in a row that are counted.

    Args:
        held: phrases of the index.
        counted: ``[P]``: those that count.
        through: phrases that do not count do not end a row.
    """
    counts = counted[held.phrase]
    rows = np.ones(len(counts), dtype=bool) if through else counts
    text, place, counts = held.text[rows], held.place[rows], counts[rows]
    if not len(text):
        return []
    new = np.ones(len(text), dtype=bool)
    new[1:] = (np.diff(text) != 0) | (np.diff(place) != 1)
    run = np.cumsum(new) - 1
    lengths = np.bincount(run, weights=counts)
    return np.unique(text[new][lengths >= PASSAGE]).tolist()
