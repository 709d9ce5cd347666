# SPDX-License-Identifier: Apache-2.0
"""Runs of words and personal data that only one unit has: whose of them stand in the synthetic text?

A coincidence can give a held-out person's words just as well (a phantom, arXiv:2606.16952), so a unit's count means
something only beside the counts of units that were never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reticent.core.record import Record
from reticent.data.words import units

RUN = 6
"""Words of a run: most runs of six words of ordinary text are in no other text."""
SHORTEST = 4
"""Letters and digits of a value of personal data; shorter ones are everywhere."""


def runs(words: Sequence[str], length: int = RUN) -> set[tuple[str, ...]]:
    """The distinct runs of ``length`` words."""
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}


def own_runs_told(
    texts: Sequence[Sequence[str]],
    owner: Sequence[str],
    synthetic: Sequence[Sequence[str]],
    *,
    counted: Sequence[bool] | None = None,
    length: int = RUN,
) -> dict[str, int]:
    """For each owner the number of runs of words that stand in the synthetic text and in no other owner's texts.

    Args:
        texts: words of every record at hand, whoever was in.
        owner: whose each is.
        synthetic: words of the synthetic texts.
        counted: texts whose runs count; all texts say whose own a run is. None: all count.
        length: of a run.

    Examples:
        >>> own_runs_told([["a", "b"], ["a", "c"]], ["ana", "ben"], [["a", "b"], ["x", "a", "c"]], length=2)
        {'ana': 1, 'ben': 1}
    """
    there = {run for words in synthetic for run in runs(words, length)}
    return _own([runs(words, length) & there for words in texts], owner, counted)


def own_values_told(
    records: Sequence[Record],
    owner: Sequence[str],
    synthetic: Sequence[Sequence[str]],
    *,
    counted: Sequence[bool] | None = None,
) -> dict[str, int]:
    """As `own_runs_told`, of the values that the records' spans mark.

    Values are compared word by word in one spelling, at the borders of words.

    Args:
        records: with spans (`reticent.data.pii.detect.detect_all`).
        owner: whose each is.
        synthetic: words of the synthetic texts.
        counted: as there.

    Examples:
        >>> from reticent.core.record import Span
        >>> mail = Record(id="1", text="call 0151-4711", spans=(Span(start=5, end=14, kind="PHONE"),))
        >>> own_values_told([mail], ["ana"], [["at", "0151", "4711"]])
        {'ana': 1}
    """
    values = [set(_values(record)) for record in records]
    lengths = {len(value) for some in values for value in some}
    there = {run for words in synthetic for length in lengths for run in runs(words, length)}
    return _own([some & there for some in values], owner, counted)


def _values(record: Record) -> Iterable[tuple[str, ...]]:
    for span in record.spans:
        value = units(record.plain[span.start : span.end])
        if sum(map(len, value)) >= SHORTEST:
            yield tuple(value)


def _own(told: Sequence[set[tuple[str, ...]]], owner: Sequence[str], counted: Sequence[bool] | None) -> dict[str, int]:
    """Counts of what is told of each owner and is no other owner's; every owner is there."""
    whose: dict[tuple[str, ...], str | None] = {}
    counts: set[tuple[str, ...]] = set()
    for number, (things, name) in enumerate(zip(told, owner, strict=True)):
        for thing in things:
            whose[thing] = name if whose.get(thing, name) == name else None
        if counted is None or counted[number]:
            counts |= things
    tally = dict.fromkeys(owner, 0)
    for thing in counts:
        if (holder := whose[thing]) is not None:
            tally[holder] += 1
    return tally


def naive_own_runs_told(
    texts: Sequence[Sequence[str]], owner: Sequence[str], synthetic: Sequence[Sequence[str]], *, length: int = RUN
) -> dict[str, int]:
    """`own_runs_told` by looking for each run in each text: the reference that the fast way is tested against.

    Examples:
        >>> naive_own_runs_told([["a", "b"], ["a", "b"]], ["ana", "ben"], [["a", "b"]], length=2)
        {'ana': 0, 'ben': 0}
    """

    def has(words: Sequence[str], run: tuple[str, ...]) -> bool:
        return any(tuple(words[start : start + length]) == run for start in range(len(words)))

    counts = {}
    for name in dict.fromkeys(owner):
        mine = {run for words, who in zip(texts, owner, strict=True) if who == name for run in runs(words, length)}
        others = [words for words, who in zip(texts, owner, strict=True) if who != name]
        counts[name] = sum(
            any(has(words, run) for words in synthetic) and not any(has(words, run) for words in others) for run in mine
        )
    return counts
