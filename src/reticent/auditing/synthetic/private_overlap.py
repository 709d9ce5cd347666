# SPDX-License-Identifier: Apache-2.0
"""The overlap of a file with private records: which of its texts are records, whole or in part.

Texts are compared by their letters and digits alone: blanks, punctuation, case, forms of the same letter, and signs
that nobody sees make no difference, and neither do the order of rows or the fields that a text is divided among.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reticent.core.record import Record
from reticent.data.words import units

RUN = 6
"""Words of a run by which the record is found that a text may be a part of."""
OWN_WORDS = 4
"""Shorter texts are the same by chance: "thank you very much"."""
NEAR_WORDS = 8
"""Shorter texts are all but the same by chance: with a word less they say what many do."""
ONE_IN = 10
"""A text is all but a record where a word in so many differs, and one at least."""
_LOOKED_UP = 3
"""Words of a run by which a record is looked up that a text may be all but the same as."""
_LIKELY = 3
"""Records that are compared word by word."""
_COMMON = 50
"""Runs that more records have tell nothing of which record it is."""


def letters(text: str) -> str:
    """All words of a text in one spelling, with nothing between them.

    >>> letters("Par\\u200bcel  No. 7!") == letters("parcel\\nno 7") == "parcelno7"
    True
    """
    return "".join(units(_seen(text)))


def count_words(text: str) -> int:
    """Number of words."""
    return len(units(_seen(text)))


def _seen(text: str) -> str:
    """The text without signs that nobody sees, such as soft hyphens and blanks of no width."""
    if text.isascii():
        return text
    return "".join(sign for sign in text if unicodedata.category(sign) != "Cf")


def keys_of(record: Record) -> tuple[str, ...]:
    """The spellings by which a text is this record: all of it, and what is trained on alone, where that is no label.

    >>> keys_of(Record(id="a", prompt="A mail:", completion="it came today, thanks"))
    ('amailitcametodaythanks', 'itcametodaythanks')
    """
    whole, learned = letters(record.plain), record.trained_text
    if learned == record.plain or count_words(learned) < OWN_WORDS:
        return (whole,) if whole else ()
    return whole, letters(learned)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Texts of a file that are private records.

    Args:
        texts: how many have a word.
        whole: how many are a record, word for word.
        parts: how many are a part of one record and not all of it.
        distinct: different ones among both, of at least `OWN_WORDS` words.
        found: records that are there whole.
        records: different records that there are.
        found_long, long: the same of records of at least `OWN_WORDS` words.
        near: texts that are neither, and are a record but for a word in `ONE_IN`.
        found_near, wordy: records of at least `NEAR_WORDS` words that are there whole or all but whole, of all such.
    """

    texts: int
    whole: int
    parts: int
    distinct: int
    found: int
    records: int
    found_long: int
    long: int
    near: int = 0
    found_near: int = 0
    wordy: int = 0

    @property
    def share(self) -> float:
        """Share of the texts that are a record or a part of one, 0 to 1."""
        return (self.whole + self.parts) / max(1, self.texts)


def overlap(rows: Sequence[Sequence[str]], records: Iterable[Record]) -> Overlap:
    """Compare a file with private records.

    Args:
        rows: for each text of the file the ways to read it, such as one field, and all fields joined; the first counts.
        records: private.

    Examples:
        >>> mails = [Record(id="a", text="My parcel is late"), Record(id="b", text="It came today")]
        >>> there = overlap([["it came  TODAY!"], ["something else"]], mails)
        >>> there.whole, there.texts, there.found, there.records
        (1, 2, 1, 2)
    """
    numbers: dict[str, int] = {}
    learned: dict[str, int] = {}
    words_of: list[list[str]] = []
    learned_of: list[tuple[int, list[str]]] = []
    for record in records:
        keys = keys_of(record)
        if keys and keys[0] not in numbers:
            numbers[keys[0]] = len(words_of)
            words_of.append(units(_seen(record.plain)))
            learned_of += [(numbers[keys[0]], units(_seen(record.trained_text)))] if keys[1:] else []
        for key in keys[1:]:
            learned.setdefault(key, numbers[keys[0]])
    worded = [row for row in rows if any(map(letters, row))]
    hits = [_first([*map(letters, row)], numbers, learned) for row in worded]
    others = [row for row, hit in zip(worded, hits, strict=True) if hit is None]
    parts = parts_of([row[0] for row in others], words_of)
    near = near_of(others, [*enumerate(words_of), *learned_of], but_for=frozenset(parts))
    there = {hit for hit in hits if hit is not None}
    wordy = {place for place, words in enumerate(words_of) if len(words) >= NEAR_WORDS}
    long = {place for place, words in enumerate(words_of) if len(words) >= OWN_WORDS}
    return Overlap(
        texts=len(worded),
        whole=sum(hit is not None for hit in hits),
        parts=len(parts),
        distinct=len(there & long) + len(set(parts)),
        found=len(there),
        records=len(words_of),
        found_long=len(there & long),
        long=len(long),
        near=len(near),
        found_near=len((there | set(near)) & wordy),
        wordy=len(wordy),
    )


def _first(keys: Sequence[str], *places: Mapping[str, int]) -> int | None:
    """The number of the first of these spellings that is on a list, of the lists in their order."""
    return next((place[key] for place in places for key in keys if key in place), None)


def parts_of(texts: Sequence[str], records: Sequence[Sequence[str]]) -> list[str]:
    """Those of the texts, by their letters, of which all words stand in one record, one after the other.

    Args:
        texts: of fewer than `RUN` words none is a part of anything.
        records: their words.

    >>> parts_of(["b c d e f g", "a c d e f g"], [list("abcdefgh")])
    ['bcdefg']
    """
    words = [units(_seen(text)) for text in texts]
    wanted = {tuple(row[:RUN]) for row in words if len(row) >= RUN}
    places: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for number, record in enumerate(records if wanted else ()):
        for start in range(len(record) - RUN + 1):
            run = tuple(record[start : start + RUN])
            if run in wanted:
                places.setdefault(run, []).append((number, start))
    return [
        "".join(row)
        for row in words
        if any(
            list(records[number][start : start + len(row)]) == row for number, start in places.get(tuple(row[:RUN]), ())
        )
    ]


def near_of(
    rows: Sequence[Sequence[str]],
    records: Sequence[tuple[int, Sequence[str]]],
    *,
    but_for: frozenset[str] = frozenset(),
) -> list[int]:
    """For each text that is a record but for a word in `ONE_IN`, the number of that record.

    Args:
        rows: for each text the ways to read it.
        records: number and words of each; one may be there in several ways.
        but_for: texts, by their letters, that are not looked at.

    >>> near_of([["b b c d e f g h i"], ["a b c d z z g h i"]], [(7, list("abcdefghi"))])
    [7]
    """
    texts = [[units(_seen(way)) for way in row] for row in rows if letters(row[0]) not in but_for]
    wanted = {run for ways in texts for words in ways if len(words) >= NEAR_WORDS for run in _runs(words)}
    places: dict[tuple[str, ...], list[int]] = {}
    for place, (_, record) in enumerate(records if wanted else ()):
        for run in set(_runs(record)) & wanted:  # all runs of all records would be a hundred times the data
            places.setdefault(run, []).append(place)
    hits = (
        next((hit for words in ways if (hit := _nearest(words, records, places)) is not None), None) for ways in texts
    )
    return [hit for hit in hits if hit is not None]


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All runs of a text that records are looked up by."""
    return (tuple(words[start : start + _LOOKED_UP]) for start in range(len(words) - _LOOKED_UP + 1))


def _nearest(
    words: Sequence[str], records: Sequence[tuple[int, Sequence[str]]], places: Mapping[tuple[str, ...], Sequence[int]]
) -> int | None:
    """The number of a record that a text of these words is but for a few, among those that share most runs with it."""
    shared: Counter[int] = Counter()
    for run in _runs(words) if len(words) >= NEAR_WORDS else ():
        held = places.get(run, ())
        shared.update(held if len(held) <= _COMMON else ())
    likely = (records[place] for place, _ in shared.most_common(_LIKELY))
    return next((number for number, record in likely if is_near(words, record)), None)


def is_near(words: Sequence[str], record: Sequence[str]) -> bool:
    """True if a text has the words of a record but for one in `ONE_IN`, one at least: another, one more or one less.

    >>> is_near("my parcel came late and it was wet".split(), "my parcel came late and it was dry".split())
    True
    """
    most = max(1, len(record) // ONE_IN)
    apart = Counter(words) - Counter(record), Counter(record) - Counter(words)
    return max(side.total() for side in apart) <= most


def naive_overlap(rows: Sequence[Sequence[str]], records: Sequence[Record]) -> tuple[int, int, int]:
    """``(whole, parts, found)`` of `overlap`, each text held against each record: the reference for tests."""
    whole = parts = 0
    there: set[str] = set()
    for row in rows:
        ways = {letters(way) for way in row} - {""}
        same = [record for record in records if letters(record.plain) in ways]
        same = same or [record for record in records if not ways.isdisjoint(keys_of(record))]
        there |= {letters(record.plain) for record in same[:1]}
        words = units(_seen(row[0]))
        within = any(
            units(_seen(record.plain))[start : start + len(words)] == words
            for record in records
            for start in range(len(units(_seen(record.plain))))
        )
        whole += bool(same)
        parts += not same and len(words) >= RUN and within
    return whole, parts, len(there)
