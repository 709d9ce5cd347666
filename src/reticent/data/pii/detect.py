# SPDX-License-Identifier: Apache-2.0
"""Find personal data in texts and records: run detectors, settle overlaps, mark repeats.

What is found is never all there is. How much of each type is missed on two public sets is in docs/personal_data.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from reticent.core.errors import BadInput
from reticent.core.record import Record, Span
from reticent.data.pii.detector import DETECTORS, Candidate, Detector, SpanEvidence
from reticent.data.pii.reading import LETTER, Readings, wordy
from reticent.data.pii.workers import Workers

MIN_REPEATED = 4
"""Shorter values are not looked for again: a four-digit code is in many numbers, a short name in many words."""

BATCH, CHARACTERS = 64, 64_000
"""Texts that detectors read at a time, and their characters unless one has more: a model of names is several times
faster on many texts than on one, and processes end together where none has much to read at last."""

_WORD = re.compile(rf"(?<!{LETTER})\w")


def choose(names: str | None = None) -> list[Detector]:
    """The detectors of that name, separated by commas; without a name those that run by default and can.

    Raises:
        BadInput: an unknown name, or a named detector whose extra is not installed.

    Examples:
        >>> [detector.name for detector in choose("email, iban")]
        ['email', 'iban']
    """
    if names is None:
        return [detector for detector in DETECTORS if detector.default and not detector.missing()]
    chosen = [DETECTORS.get(name.strip()) for name in names.split(",") if name.strip()]
    if not chosen:
        raise BadInput("detectors", "none is named", f"Choose some of: {', '.join(DETECTORS.names())}.")
    for detector in chosen:
        if detector.missing():
            raise BadInput(f"detector {detector.name!r}", "cannot run", detector.missing())
    return chosen


def find(text: str, detectors: Sequence[Detector] | None = None) -> tuple[Span, ...]:
    """Sensitive stretches of a text: rising, apart from each other, each of one kind.

    Examples:
        >>> find("Write to ana@example.org from 203.0.113.9", choose("email,ip_address"))
        (Span(start=9, end=24, kind='EMAIL'), Span(start=30, end=41, kind='IP_ADDRESS'))

    Args:
        text: any text.
        detectors: `choose` gives them; None for those that run by default.
    """
    return next(find_all([text], detectors))


def find_all(
    texts: Sequence[str],
    detectors: Sequence[Detector] | None = None,
    *,
    processes: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[Span, ...]]:
    """The spans that `find` gives for each text, in order; in batches, and in several processes where asked for.

    The spans of a text depend on that text alone.

    Args:
        texts: any texts.
        detectors: as in `find`.
        processes: that look at texts at the same time; detectors that only this process knows run in it.
        advance: is told of each text that is done.
    """
    chosen = list(choose() if detectors is None else detectors)
    batches = list(batches_of(texts))
    with Workers(chosen, processes=min(processes, len(batches))) as workers:
        for text, candidates in zip(texts, _all_candidates(batches, workers), strict=True):
            yield _settled(text, candidates)
            advance(1)


def _all_candidates(batches: Sequence[Sequence[str]], workers: Workers) -> Iterator[list[Candidate]]:
    """The candidates that `candidates_in` gives for each text."""
    for candidates in workers.map(candidates_in, batches):
        yield from candidates


def batches_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in order, at most `BATCH` at a time, and at most `CHARACTERS` in all or one text.

    >>> [len(batch) for batch in batches_of(["a" * 40_000, "b" * 30_000, "", *["c"] * 70, "d" * 90_000])]
    [1, 64, 8, 1]
    """
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and (len(batch) == BATCH or characters + len(text) > CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch


def _settled(text: str, candidates: Sequence[Candidate]) -> tuple[Span, ...]:
    settled = settle(text, candidates)
    repeats = repeated(text, settled)
    return settle(text, [*candidates, *repeats]) if repeats else settled


def candidates_in(texts: Sequence[str], detectors: Sequence[Detector]) -> list[list[Candidate]]:
    """All spans that the detectors give for each text, each in the reading of the text that the detector asks for."""
    readings = [Readings(text) for text in texts]
    candidates: list[list[Candidate]] = [[] for _ in texts]
    for detector in detectors:
        views = [getattr(reading, detector.reads) for reading in readings]
        plain = [view.text for view in views]
        found_there = detector.find_many(plain) if detector.find_many else map(detector.find, plain)
        for held, view, spans in zip(candidates, views, found_there, strict=True):
            held += (_candidate(span, detector) for span in view.spans(spans))
        if detector.joins is not None:
            for held, reading in zip(candidates, readings, strict=True):
                held += (_candidate(span, detector) for span in _joined(reading, detector))
    return candidates


def _joined(reading: Readings, detector: Detector) -> list[Span]:
    """Values with a gap of tabs, line breaks or several blanks that the detector believes in. None that follows on
    another figure over such a gap: figures in columns have a right check digit now and then."""
    view, joins = reading.joined, detector.joins
    if view is None or joins is None:
        return []
    spans = [
        span
        for span in detector.find(view.text)
        if not view.replaced_before(span.start) and len(parts := view.parts(span.start, span.end)) > 1 and joins(parts)
    ]
    return view.spans(spans)


def _candidate(span: Span, detector: Detector) -> Candidate:
    return Candidate(start=span.start, end=span.end, kind=span.kind, evidence=detector.evidence, detector=detector.name)


def detect(record: Record, detectors: Sequence[Detector] | None = None) -> Record:
    """The record with spans on what was found and on what was marked before.

    Context words may stand in another piece (a question for a passport number, and the answer); a span never does.
    What was marked before keeps its kind.
    """
    return next(detect_all([record], detectors))


def detect_all(
    records: Sequence[Record],
    detectors: Sequence[Detector] | None = None,
    *,
    processes: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[Record]:
    """The record that `detect` gives for each record, in order; the rest as in `find_all`."""
    chosen = choose() if detectors is None else detectors
    with Workers(chosen, processes=min(processes, -(-len(records) // BATCH))) as workers:
        for record, _ in detect_beside(records, workers, advance=advance):
            yield record


def detect_beside(
    records: Sequence[Record],
    workers: Workers,
    others: Sequence[Detector] = (),
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[Record, tuple[Span, ...]]]:
    """For each record what `detect` gives, and what ``others`` find in the same text, by themselves.

    Every text is read once: detectors that use the same model of names share what it says.

    Args:
        records: any records.
        workers: with all detectors, ``others`` among them.
        others: detectors whose finds are given beside the record and not marked in it.
        advance: is told of each record that is done.
    """
    names = {detector.name for detector in others}
    texts = [record.plain for record in records]
    per_text = _all_candidates(list(batches_of(texts)), workers)
    for record, text, candidates in zip(records, texts, per_text, strict=True):
        primary = [candidate for candidate in candidates if candidate.detector not in names]
        beside = [candidate for candidate in candidates if candidate.detector in names]
        yield _marked(record, _settled(text, primary)), _settled(text, beside)
        advance(1)


def _marked(record: Record, detections: Sequence[Span]) -> Record:
    text = record.plain
    marked = [
        Candidate(start=span.start, end=span.end, kind=span.kind, evidence=SpanEvidence.CHECKED)
        for span in record.spans
    ]
    new = [Candidate(start=span.start, end=span.end, kind=span.kind, evidence=SpanEvidence.FORM) for span in detections]
    spans: list[Span] = []
    for start, end in borders(record):
        inside = [cut for candidate in (*marked, *new) if (cut := _cut(candidate, start, end))]
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
    order = sorted(
        candidates,
        key=lambda candidate: (-candidate.evidence, candidate.start - candidate.end, candidate.start, candidate.kind),
    )
    owner: dict[int, int] = {}
    for number, candidate in enumerate(order):
        for place in range(candidate.start, candidate.end):
            owner.setdefault(place, number)
    spans: list[Span] = []
    places = sorted(owner)
    begin = 0
    for index in range(1, len(places) + 1):
        ends = index == len(places)
        if not ends and places[index] == places[index - 1] + 1 and owner[places[index]] == owner[places[begin]]:
            continue
        candidate = order[owner[places[begin]]]
        start, end = places[begin], places[index - 1] + 1
        whole = (start, end) == (candidate.start, candidate.end)
        trimmed = (start, end) if whole else _trimmed(text, start, end)
        if trimmed[0] < trimmed[1]:
            spans.append(Span(start=trimmed[0], end=trimmed[1], kind=candidate.kind))
        begin = index
    return tuple(spans)


def repeated(text: str, spans: Sequence[Span]) -> list[Candidate]:
    """Further places, between word boundaries, where a found value of at least four characters stands word for word.

    Not of a place that is one word: it is somebody's name elsewhere as often.
    """
    kinds: dict[str, str] = {}
    for span in spans:
        value = text[span.start : span.end]
        lone_place = span.kind == "LOCATION" and " " not in value
        if len(value) >= MIN_REPEATED and not lone_place and (value[0].isalnum() or value[0] == "_"):
            kinds.setdefault(value, span.kind)
    taken = {span.start for span in spans}
    repeats = []
    for value, kind in kinds.items():
        start = text.find(value)
        while start >= 0:
            end = start + len(value)
            within = wordy(text[end - 1]) and wordy(text[end : end + 1])
            if start not in taken and not within and _WORD.match(text, start):
                repeats.append(Candidate(start=start, end=end, kind=kind, evidence=SpanEvidence.MODEL))
            start = text.find(value, start + 1)
    return repeats


def _cut(candidate: Candidate, start: int, end: int) -> Candidate | None:
    first, last = max(candidate.start, start), min(candidate.end, end)
    return replace(candidate, start=first, end=last) if first < last else None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without characters at the ends that are neither letters nor digits."""
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum():
        end -= 1
    return start, end
