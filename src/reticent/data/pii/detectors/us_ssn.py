# SPDX-License-Identifier: Apache-2.0
"""US social security numbers: areas, groups and serials that can have been issued."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context_words import cue, near
from reticent.data.pii.detector import SpanEvidence, detector

_PARTED = re.compile(r"(?<![\w.-])([0-9]{3})([- ])([0-9]{2})\2([0-9]{4})(?![\w-])")
_OTHER = re.compile(r"(?<![\w.])(?<![0-9]-)([0-9]{3})[. -]?([0-9]{2})[. -]?([0-9]{4})(?![\w-])")
_CUE = cue("ssn", "ssns", "social security", "social security (?:number|no)", "soc sec")


@detector(
    "us_ssn",
    kinds=("US_SSN",),
    evidence=SpanEvidence.CHECKED,
    reads="numbers",
    joins=any,
    example=("it is 536-90-4399.", "536-90-4399"),
)
def us_ssn(text: str) -> Iterator[Span]:
    """Social security numbers, with hyphens or blanks; nine digits in a row only after words that say so."""
    for match in _PARTED.finditer(text):
        if possible(match[1], match[3], match[4]) and (match[2] == "-" or near(text, match.start(), _CUE)):
            yield Span(start=match.start(), end=match.end(), kind="US_SSN")
    for match in _OTHER.finditer(text):
        if possible(match[1], match[2], match[3]) and near(text, match.start(), _CUE):
            yield Span(start=match.start(), end=match.end(), kind="US_SSN")


def possible(area: str, group: str, serial: str) -> bool:
    """Areas 000, 666 and 900 to 999, the group 00 and the serial 0000 are never issued."""
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
