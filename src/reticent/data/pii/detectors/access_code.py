# SPDX-License-Identifier: Apache-2.0
"""PINs, one-time codes and card verification codes: short numbers after words that say so."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context_words import cue, cued
from reticent.data.pii.detector import SpanEvidence, detector

_CUE = cue(
    "pin(?: code| number)?",
    "otp",
    "cvv2?",
    "cvc2?",
    "(?:access|entry|door|gate|alarm|key|lock|security|verification|confirmation|one-time|sms|login|garage|safe) code",
    "passcode",
)
_CODE = re.compile(r"(?<![\w.,$\u00a3\u20ac#/-])[0-9]{3,8}(?![\w/-]|[.,][0-9])")


@detector(
    "access_code",
    kinds=("ACCESS_CODE",),
    evidence=SpanEvidence.CONTEXT,
    reads="numbers",
    example=("the door code is 4821.", "4821"),
)
def access_code(text: str) -> Iterator[Span]:
    """Three to eight digits after "PIN", "access code", "CVV" and the like."""
    for match in cued(text, _CODE.finditer(text), _CUE, reach=25):
        yield Span(start=match.start(), end=match.end(), kind="ACCESS_CODE")
