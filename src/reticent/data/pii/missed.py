# SPDX-License-Identifier: Apache-2.0
"""What a scrubber left behind: found by detectors that did not scrub, or known from marks that were kept from it."""

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
    ran = {one.name for one in scrubbing}
    return [one for one in DETECTORS if one.name not in ran and one.second_look and not one.missing()]


def unscrubbed(marks: Sequence[Span], detected: Record, scrubbed: Record) -> tuple[Span, ...]:
    """What of ``marks`` was not detected, and where it is in the scrubbed record.

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
    found: list[Secret] = []
    for span in spans:
        if all(span.end <= other.start or span.start >= other.end for other in found):
            found.append(
                Secret(
                    id=f"missed/{record.id}/{len(found)}",
                    record=record,
                    start=span.start,
                    end=span.end,
                    kind=span.kind,
                    group=GROUP,
                    member=False,
                )
            )
    return found


def _rest(text: str, spans: Iterable[Span], covered: Sequence[Span]) -> tuple[Span, ...]:
    """What of ``spans`` lies outside of ``covered``; of a part of one, without the marks and blanks at its ends."""
    hidden = {place for span in covered for place in range(span.start, span.end)}
    rest = []
    for span in spans:
        begin = span.start
        for place in range(span.start, span.end + 1):
            if place == span.end or place in hidden:
                kept = _trimmed(text, begin, place)
                if kept is not None:
                    whole = (begin, place) == (span.start, span.end)
                    rest.append(span if whole else replace(span, start=kept[0], end=kept[1]))
                begin = place + 1
    return tuple(rest)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    letters = [place for place in range(start, end) if text[place].isalnum()]
    return (letters[0], letters[-1] + 1) if len(letters) >= SHORTEST else None
