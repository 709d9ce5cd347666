# SPDX-License-Identifier: Apache-2.0
"""Values that a scrubber left behind: detectors that did not scrub find them, or marks that it did not get say so."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from reticent.core.record import Record, Span
from reticent.core.secret import Secret
from reticent.data.pii.detector import DETECTORS, Detector

GROUP = "missed by the scrubber"
SHORTEST = 3
"""A rest of fewer letters and digits gives nobody away."""


def others(scrubbing: Sequence[Detector]) -> list[Detector]:
    """All detectors that can run here and did not scrub, those that only run when named among them; without those that
    find mostly what is none, and would hide what was missed."""
    ran = {detector.name for detector in scrubbing}
    return [
        detector
        for detector in DETECTORS
        if detector.name not in ran and detector.second_look and not detector.missing()
    ]


def unscrubbed(marks: Sequence[Span], detected: Record, scrubbed: Record) -> tuple[Span, ...]:
    """The parts of ``marks`` that were not detected, at their places in the scrubbed record.

    Args:
        marks: what is known to be there, or what other detectors found: characters of ``detected.plain``; a mark of
            which a part was detected counts by its rest.
        detected: before scrubbing, with the spans that were replaced: apart, within pieces (`detect` gives such).
        scrubbed: after it, with spans on the replacements.
    """
    rest = _rest(detected.plain, marks, detected.spans)
    ends = [span.end for span in sorted(detected.spans, key=lambda span: span.start)]
    put = [span.end for span in sorted(scrubbed.spans, key=lambda span: span.start)]
    spans = []
    for span in rest:
        before = bisect_right(ends, span.start)
        shift = put[before - 1] - ends[before - 1] if before else 0
        spans.append(replace(span, start=span.start + shift, end=span.end + shift))
    return tuple(spans)


def targets(record: Record, spans: Iterable[Span]) -> list[Secret]:
    """The spans as what an attacker is after; overlapping ones once, the first of them."""
    secrets: list[Secret] = []
    for span in spans:
        if all(span.end <= other.start or span.start >= other.end for other in secrets):
            secrets.append(
                Secret(
                    id=f"missed/{record.id}/{len(secrets)}",
                    record=record,
                    start=span.start,
                    end=span.end,
                    kind=span.kind,
                    group=GROUP,
                    member=False,
                )
            )
    return secrets


def _rest(text: str, spans: Iterable[Span], covered: Sequence[Span]) -> tuple[Span, ...]:
    """The parts of ``spans`` outside of ``covered``; a part of a span loses the punctuation and blanks at its ends."""
    hidden = {place for span in covered for place in range(span.start, span.end)}
    rest = []
    for span in spans:
        begin = span.start
        for place in range(span.start, span.end + 1):
            if place == span.end or place in hidden:
                bounds = _trimmed(text, begin, place)
                if bounds is not None:
                    whole = (begin, place) == (span.start, span.end)
                    rest.append(span if whole else replace(span, start=bounds[0], end=bounds[1]))
                begin = place + 1
    return tuple(rest)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    letters = [place for place in range(start, end) if text[place].isalnum()]
    return (letters[0], letters[-1] + 1) if len(letters) >= SHORTEST else None
