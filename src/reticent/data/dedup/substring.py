# SPDX-License-Identifier: Apache-2.0
"""Long passages that stand in several records, whatever is around them: quoted mails, signatures, terms, boilerplate.

A passage of at least ``LENGTH`` characters (see `usual_length`) that two texts share is found by sorting all places of
all texts by the ``LENGTH`` characters that begin there, as a suffix array does (prefix doubling: Manber and Myers
1993), with two shortcuts: the sort stops at that depth, and places whose shorter prefix is already unlike all others
are left out. So nothing is sampled or hashed. Lee et al. 2022 (arXiv:2107.06499) found that such passages are what
models recite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.record import Record
from reticent.data.dedup.dropped import Deduplication, DroppedRecord, settled
from reticent.data.words import unspaced_share

LENGTH = 200
"""Characters: about the 50 tokens of Lee et al."""
UNSPACED_LENGTH = 70
"""The same where most words are characters of scripts without blanks, which say more each."""
SHARE = 0.5
"""A record of which so much stands in earlier ones is a copy."""

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
        if covered and covered >= share * len(records[text].plain):
            gone[text] = int(np.bincount(from_earlier[repeats]).argmax())
        else:
            owner[names[~repeats]] = text
    return Deduplication(
        [record for place, record in enumerate(records) if place not in gone],
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
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    ends = np.cumsum(sizes)
    room = np.repeat(ends, sizes) - np.arange(int(sizes.sum()))  # characters from each place to the end of its text
    letters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    name, depth = _first_names(letters, room, length)
    while depth < length:
        step = min(depth, length - depth)
        places = np.flatnonzero((name >= 0) & (room >= depth + step))
        behind = name[places + step]
        places, behind = places[behind >= 0], behind[behind >= 0]
        name = _names(places, name[places] * (int(name.max(initial=0)) + 1) + behind, len(name))
        depth += step
    places = np.flatnonzero(name >= 0)
    text = np.searchsorted(ends, places, side="right")
    return Windows(text=text, start=places - (ends - sizes)[text], name=name[places], length=length)


def _first_names(letters: npt.NDArray[np.uint32], room: Indices, length: int) -> tuple[Indices, int]:
    """Names of as many characters as fit into one number, and how many those are."""
    alphabet, letter = np.unique(letters, return_inverse=True)
    bits = max(1, int(len(alphabet) - 1).bit_length())
    depth = min(length, 62 // bits)
    key = np.zeros(len(letters), dtype=np.int64)
    for ahead in range(depth):
        key <<= bits
        key[: max(0, len(key) - ahead)] |= letter[ahead:]
    places = np.flatnonzero(room >= depth)
    return _names(places, key[places], len(letters)), depth


def _names(places: Indices, key: Indices, n: int) -> Indices:
    """``[n]``: at ``places`` the number of its key among keys that stand twice or more; -1 where it stands once, and
    at other places."""
    order = np.argsort(key)
    ordered = key[order]
    new = np.ones(len(key), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    alone = new & np.append(new[1:], True)
    of_order = np.where(alone, -1, np.cumsum(new & ~alone) - 1)
    name = np.full(n, -1, dtype=np.int64)
    name[places[order]] = of_order
    return name


def _holders(windows: Windows) -> Indices:
    """``[names]``: how many texts have the window."""
    texts = int(windows.text.max(initial=0)) + 1
    pairs = np.unique(windows.name * texts + windows.text)
    return np.bincount(pairs // texts, minlength=int(windows.name.max(initial=-1)) + 1)


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
