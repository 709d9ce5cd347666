# SPDX-License-Identifier: Apache-2.0
"""Find personal data in texts and records: run detectors, settle overlaps, mark repeats.

What is found is never all there is. How much of each type is missed on two public sets is in docs/personal_data.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from reticent.core.errors import BadInput
from reticent.core.record import Record, Span
from reticent.data.pii.detector import DETECTORS, Detector, Evidence

MIN_REPEATED = 4
"""Shorter values are not looked for again: a four-digit code is in many numbers, a short name in many words."""

_WORD = re.compile(r"(?<!\w)\w")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A span that one detector gave, and what it rests on."""

    start: int
    end: int
    kind: str
    evidence: Evidence


def choose(names: str | None = None) -> list[Detector]:
    """The detectors of that name, separated by commas; without a name those that run by default and can.

    Raises:
        BadInput: an unknown name, or a named detector whose extra is not installed.
    """
    if names is None:
        return [found for found in DETECTORS if found.default and not found.missing()]
    chosen = [DETECTORS.get(name.strip()) for name in names.split(",") if name.strip()]
    if not chosen:
        raise BadInput("detectors", "none is named", f"Choose some of: {', '.join(DETECTORS.names())}.")
    for found in chosen:
        if found.missing():
            raise BadInput(f"detector {found.name!r}", "cannot run", found.missing())
    return chosen


def find(text: str, detectors: Sequence[Detector] | None = None) -> tuple[Span, ...]:
    """Sensitive stretches of a text: rising, apart from each other, each of one kind.

    >>> find("Write to ana@example.org from 203.0.113.9", choose("email,ip_address"))
    (Span(start=9, end=24, kind='EMAIL'), Span(start=30, end=41, kind='IP_ADDRESS'))

    Args:
        text: any text.
        detectors: `choose` gives them; None for those that run by default.
    """
    chosen = choose() if detectors is None else detectors
    candidates = [
        Candidate(start=span.start, end=span.end, kind=span.kind, evidence=found.evidence)
        for found in chosen
        for span in found.find(text)
        if 0 <= span.start < span.end <= len(text)
    ]
    settled = settle(text, candidates)
    repeats = repeated(text, settled)
    return settle(text, [*candidates, *repeats]) if repeats else settled


def detect(record: Record, detectors: Sequence[Detector] | None = None) -> Record:
    """The record with spans on what was found and on what was marked before.

    Context words may stand in another piece (a question for a passport number, and the answer); a span never does.
    What was marked before keeps its kind.
    """
    text = record.plain
    marked = [
        Candidate(start=span.start, end=span.end, kind=span.kind, evidence=Evidence.CHECKED) for span in record.spans
    ]
    found = [
        Candidate(start=span.start, end=span.end, kind=span.kind, evidence=Evidence.FORM)
        for span in find(text, detectors)
    ]
    spans: list[Span] = []
    for start, end in borders(record):
        inside = [cut for candidate in (*marked, *found) if (cut := _cut(candidate, start, end))]
        spans += settle(text, inside)
    return replace(record, spans=tuple(spans))


def borders(record: Record) -> Iterator[tuple[int, int]]:
    """Where each piece of the record lies in ``record.plain``."""
    start = 0
    for _, piece in record.pieces:
        yield start, start + len(piece)
        start += len(piece) + 1


def settle(text: str, candidates: Iterable[Candidate]) -> tuple[Span, ...]:
    """Disjoint spans that cover what the candidates cover, whatever order they come in.

    Better evidence wins, then the longer, then the earlier span, then the name of the kind. What the winner leaves of
    the loser stays a span of the loser's kind, without the marks and blanks at its ends: nothing but those is lost.
    """
    order = sorted(candidates, key=lambda one: (-one.evidence, one.start - one.end, one.start, one.kind))
    owner: dict[int, int] = {}
    for number, one in enumerate(order):
        for place in range(one.start, one.end):
            owner.setdefault(place, number)
    spans: list[Span] = []
    places = sorted(owner)
    begin = 0
    for index in range(1, len(places) + 1):
        ends = index == len(places)
        if not ends and places[index] == places[index - 1] + 1 and owner[places[index]] == owner[places[begin]]:
            continue
        one = order[owner[places[begin]]]
        start, end = places[begin], places[index - 1] + 1
        whole = (start, end) == (one.start, one.end)
        trimmed = (start, end) if whole else _trimmed(text, start, end)
        if trimmed[0] < trimmed[1]:
            spans.append(Span(start=trimmed[0], end=trimmed[1], kind=one.kind))
        begin = index
    return tuple(spans)


def repeated(text: str, spans: Sequence[Span]) -> list[Candidate]:
    """Further places, between word boundaries, where a found value of at least four characters stands word for word."""
    kinds: dict[str, str] = {}
    for span in spans:
        value = text[span.start : span.end]
        if len(value) >= MIN_REPEATED and (value[0].isalnum() or value[0] == "_"):
            kinds.setdefault(value, span.kind)
    lengths = sorted({len(value) for value in kinds})
    taken = {span.start for span in spans}
    found = []
    for match in _WORD.finditer(text) if kinds else ():
        start = match.start()
        for length in lengths if start not in taken else ():
            end = start + length
            kind = kinds.get(text[start:end]) if end <= len(text) else None
            if kind is not None and not (text[end - 1].isalnum() and text[end : end + 1].isalnum()):
                found.append(Candidate(start=start, end=end, kind=kind, evidence=Evidence.MODEL))
    return found


def _cut(one: Candidate, start: int, end: int) -> Candidate | None:
    first, last = max(one.start, start), min(one.end, end)
    return replace(one, start=first, end=last) if first < last else None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without characters at the ends that are neither letters nor digits."""
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum():
        end -= 1
    return start, end
