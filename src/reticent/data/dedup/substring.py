# SPDX-License-Identifier: Apache-2.0
"""Long passages that stand in several records, whatever is around them: quoted mails, signatures, terms, boilerplate.

Windows of ``LENGTH`` characters (see `usual_length`) that two texts share hold the same gram of least hash (minimizer:
Schleimer et al. 2003, winnowing). So a first pass notes the minimizers, about one in forty places; a second takes the
windows whose minimizer was noted twice; and those are compared, by hash and then by their characters. Nothing is
sampled, and no hash decides. Texts are read a part at a time: beyond them it holds some bytes for each character that
stands in a repeated passage, and hardly any for the others. Lee et al. 2022 (arXiv:2107.06499) found that such passages
are what models recite.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.record import Record
from reticent.data.dedup.dropped import Deduplication, DroppedRecord, settled
from reticent.data.dedup.near import mix
from reticent.data.mapped_records import at_places
from reticent.data.words import unspaced_share

LENGTH = 200
"""Characters: about the 50 tokens of Lee et al."""
UNSPACED_LENGTH = 70
"""The same where most words are characters of scripts without blanks, which say more each."""
SHARE = 0.5
"""A record of which so much stands in earlier ones is a copy."""

PART = 2**20
"""Characters that are looked at together."""
ROWS = 2**16
"""Windows whose characters are compared together."""
ODD = np.uint64(0x9E3779B97F4A7C15)
"""By which the first of two halves is multiplied, so that halves that change places make another hash."""

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Stretch = tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """The stretches of ``length`` characters that stand at two or more places.

    Args:
        text: ``[W]`` which text each is in; rising.
        start: ``[W]`` where it begins there; rising within a text.
        name: ``[W]`` the same number for the same characters; from 0.
        length: of all of them.
    """

    text: Indices
    start: Indices
    name: Indices
    length: int


def usual_length(texts: Sequence[str]) -> int:
    """Characters of the shortest passage that counts, by the script that most of the words are of."""
    return UNSPACED_LENGTH if unspaced_share(texts) > 0.5 else LENGTH


def shared_passages(texts: Sequence[str], *, length: int | None = None) -> list[tuple[Stretch, ...]]:
    """For each text the stretches, from and to, that are made of ``length`` or more characters standing in another one.

    What a text repeats of itself does not count. Stretches are rising and apart.

    >>> shared_passages(["see you soon, Ana", "Bo, see you soon"], length=8)
    [((0, 12),), ((4, 16),)]

    Args:
        texts: any; no passage runs over the end of one.
        length: at least so many characters in a row; `usual_length` where it is None.
    """
    length = usual_length(texts) if length is None else length
    windows = _windows(texts, length)
    holders = _holders(windows)
    elsewhere = holders[windows.name] > 1
    passages: list[tuple[Stretch, ...]] = [()] * len(texts)
    for text, start in _by_text(windows.text[elsewhere], windows.start[elsewhere]):
        passages[text] = _merged(start, length)
    return passages


def drop_repeated_passages(
    records: Sequence[Record], *, length: int | None = None, share: float = SHARE
) -> Deduplication:
    """Leave out records of which ``share`` or more stands in earlier ones that are kept, in passages of ``length``.

    ``kept`` of a record that is left out is the one that most of its passages came from first.

    Args:
        records: with unique ids; compared as a whole (``Record.plain``).
        length: of the shortest passage, in characters; `usual_length` where it is None.
        share: of the characters of a record, above 0 and at most 1.
    """
    validate.in_range(0, 1, share=share)
    texts = [record.plain for record in records]
    length = usual_length(texts) if length is None else length
    windows = _windows(texts, length)
    owner = np.full(int(windows.name.max(initial=-1)) + 1, -1, dtype=np.int64)
    gone: dict[int, int] = {}
    for text, rows in _by_text(windows.text, np.arange(len(windows.text))):
        names = windows.name[rows]
        from_earlier = owner[names]
        repeats = from_earlier >= 0
        covered = sum(end - start for start, end in _merged(windows.start[rows[repeats]], length))
        if covered and covered >= share * len(texts[text]):
            # Not by a count for each text before this one: that would grow with the square of the texts.
            owners, windows_of = np.unique(from_earlier[repeats], return_counts=True)
            gone[text] = int(owners[windows_of.argmax()])
        else:
            owner[names[~repeats]] = text
    return Deduplication(
        at_places(records, [place for place in range(len(records)) if place not in gone]),
        settled(
            DroppedRecord(records[place].id, records[original].id, "substring") for place, original in gone.items()
        ),
    )


def share_covered(texts: Sequence[str], passages: Sequence[Sequence[Stretch]]) -> npt.NDArray[np.float64]:
    """``[N]``: how much of each text its stretches cover, 0 to 1; of an empty text nothing."""
    covered = [sum(end - start for start, end in of_text) for of_text in passages]
    return np.array([n / max(1, len(text)) for n, text in zip(covered, texts, strict=True)], dtype=np.float64)


def _windows(texts: Sequence[str], length: int) -> Windows:
    """All windows of ``length`` characters that stand at two or more places of ``texts``."""
    validate.positive(length=length)
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    hashes, place = _candidates(texts, length)
    order = np.argsort(hashes, kind="stable")
    hashes, place = hashes[order], place[order]
    new = _changes(hashes)
    several = ~(new & np.append(new[1:], True)[: len(new)])
    place, name = place[several], np.cumsum(new[several]) - 1
    del hashes, order, new, several
    _tell_apart(texts, ends, place, name, length)
    order = np.argsort(place)
    order = order[(np.bincount(name, minlength=1)[name] > 1)[order]]
    place = place[order]
    _, name = np.unique(name[order], return_inverse=True)
    text, start = _text_of(place, ends)
    return Windows(text=text, start=start, name=name, length=length)


def _text_of(place: Indices, ends: Indices) -> tuple[Indices, Indices]:
    """Text and start, for each place of all texts in a row."""
    text = np.searchsorted(ends, place, side="right")
    return text, place - np.concatenate([[0], ends])[text]


def _candidates(texts: Sequence[str], length: int) -> tuple[Hashes, Indices]:
    """Hash and place of the windows that hold a repeated minimizer: all that can stand twice, and few others."""
    gram = max(1, length // 4)
    seen = [_minimizers(part.hashes, part.room, gram, length)[1] for part in _parts(texts, gram)]
    repeated = _twice(np.concatenate([np.zeros(0, dtype=np.uint64), *seen]))
    del seen
    hashes, places = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    for part in _parts(texts, gram):
        least, _ = _minimizers(part.hashes, part.room, gram, length)
        inside = np.flatnonzero(_among(least, repeated) & (part.room[: len(least)] >= length))
        if len(inside):
            hashes.append(_window_hashes(part.letters, length)[inside])
            places.append(inside + part.start)
    return np.concatenate(hashes), np.concatenate(places)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """Some texts in a row: ``[n]`` characters.

    Args:
        start: characters before them.
        letters: their code points.
        hashes: of the gram from each place on.
        room: characters from each place to the end of its text.
    """

    start: int
    letters: npt.NDArray[np.uint32]
    hashes: Hashes
    room: Indices


def _parts(texts: Sequence[str], gram: int) -> Iterator[_Part]:
    """The texts, about ``PART`` characters at a time."""
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    borders = [*np.flatnonzero(np.diff(np.cumsum(sizes) // PART, prepend=-1)).tolist(), len(texts)]
    before = 0
    for first, last in pairwise(borders):
        joined = "".join(texts[first:last]).encode("utf-32-le", "surrogatepass")
        letters = np.frombuffer(joined, dtype=np.uint32)
        if len(letters) >= gram:
            room = np.repeat(np.cumsum(sizes[first:last]), sizes[first:last]) - np.arange(len(letters))
            yield _Part(start=before, letters=letters, hashes=_window_hashes(letters, gram), room=room)
        before += len(letters)


def _window_hashes(letters: npt.NDArray[np.uint32], length: int) -> Hashes:
    """``[n - length + 1]``: a hash of the characters from each place on; equal characters have equal ones."""
    hashes = mix(letters.astype(np.uint64) + np.uint64(1))
    depth = 1
    while depth < length:
        ahead = min(depth, length - depth)
        hashes = mix(hashes[: len(hashes) - ahead] * ODD + hashes[ahead:])
        depth += ahead
    return hashes


def _minimizers(hashes: Hashes, room: Indices, gram: int, length: int) -> tuple[Hashes, Hashes]:
    """The smallest hash of a gram in each window, and all hashes, one a place, that are the smallest of a window."""
    width = length - gram + 1
    if len(hashes) < width:
        return hashes[:0], hashes[:0]
    least = _sliding(np.minimum, hashes, width)
    inside = np.where(room[: len(least)] >= length, least, np.uint64(0))
    largest = _sliding(np.maximum, np.pad(inside, width - 1), width)
    return least, hashes[largest == hashes]


def _sliding(combine: np.ufunc, values: Hashes, width: int) -> Hashes:
    """``combine`` over each ``width`` values in a row."""
    depth = 1
    while depth < width:
        ahead = min(depth, width - depth)
        values = combine(values[: len(values) - ahead], values[ahead:])
        depth += ahead
    return values


def _twice(hashes: Hashes) -> Hashes:
    """Those that are there twice or more, rising."""
    hashes = np.sort(hashes)
    again = hashes[1:][hashes[1:] == hashes[:-1]]
    return again[_changes(again)]


def _among(hashes: Hashes, rising: Hashes) -> npt.NDArray[np.bool_]:
    """``[n]``: true where it is one of ``rising``; of many equal ones in a row the first is looked up."""
    if not len(rising):
        return np.zeros(len(hashes), dtype=bool)
    new = _changes(hashes)
    first = hashes[new]
    noted = rising[np.minimum(np.searchsorted(rising, first), len(rising) - 1)] == first
    return noted[np.cumsum(new) - 1]


def _tell_apart(texts: Sequence[str], ends: Indices, place: Indices, name: Indices, length: int) -> None:
    """Name windows by the characters themselves: those of one hash that differ get another name each, in place."""
    if not len(name):
        return
    first = np.flatnonzero(np.diff(name, prepend=-1))
    other: dict[str, int] = {}
    for begin in range(0, len(name), ROWS):
        rows = slice(begin, begin + ROWS)
        mine = zip(*(column.tolist() for column in _text_of(place[rows], ends)), strict=True)
        of_first = zip(*(column.tolist() for column in _text_of(place[first[name[rows]]], ends)), strict=True)
        for row, ((text, at), (holder, there)) in enumerate(zip(mine, of_first, strict=True), start=begin):
            window = texts[text][at : at + length]
            if window != texts[holder][there : there + length]:
                name[row] = other.setdefault(window, len(first) + len(other))


def _changes(values: Hashes | Indices) -> npt.NDArray[np.bool_]:
    """Where another value begins."""
    new = np.ones(len(values), dtype=bool)
    new[1:] = values[1:] != values[:-1]
    return new


def _holders(windows: Windows) -> Indices:
    """``[names]``: how many texts have the window."""
    texts = int(windows.text.max(initial=0)) + 1
    pairs = np.sort(windows.name * texts + windows.text)
    return np.bincount(pairs[_changes(pairs)] // texts, minlength=int(windows.name.max(initial=-1)) + 1)


def _by_text(text: Indices, values: Indices) -> list[tuple[int, Indices]]:
    """``values`` of each text that has any."""
    borders = np.flatnonzero(np.diff(text, prepend=-1))
    if not len(borders):
        return []
    return list(zip(text[borders].tolist(), np.split(values, borders[1:]), strict=True))


def _merged(start: Indices, length: int) -> tuple[Stretch, ...]:
    """The stretches that windows of ``length`` at rising starts cover."""
    if not len(start):
        return ()
    breaks = np.flatnonzero(np.diff(start) > length)
    first, last = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(start) - 1]])
    return tuple(zip(start[first].tolist(), (start[last] + length).tolist(), strict=True))
