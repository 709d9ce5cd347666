# SPDX-License-Identifier: Apache-2.0
"""Numbers of passports, driving licences, patients, insurances and accounts: known only by the words before them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reticent.core.record import Span
from reticent.data.pii.context_words import cue
from reticent.data.pii.detector import SpanEvidence, detector

CUES = {
    "PASSPORT": cue("passports?", "passport (?:number|no|num)"),
    "DRIVER_LICENCE": cue(
        "driver'?s?'? licen[cs]e",
        "driving licen[cs]e",
        "driver'?s?'? licen[cs]es",
        "dl (?:number|no)",
        "licen[cs]e (?:number|no)",
    ),
    "MEDICAL_RECORD": cue(
        "mrn", "medical record", "patient (?:id|number|no)", "chart (?:number|no)", "hospital number"
    ),
    "INSURANCE": cue("insurance (?:number|no|id|policy)", "policy (?:number|no)", "member id", "beneficiary"),
    "BANK_ACCOUNT": cue(
        "(?:bank )?account (?:number|no|num)", "acct", "routing (?:number|no)", "sort code", "bank account"
    ),
}
"""Kind → words that come before such a number."""

REACH = 40
_VALUE = re.compile(
    r"(?<![\w.-])(?=[A-Z-]{0,6}[0-9])[A-Z0-9]{2,20}(?:[ -][0-9][A-Z0-9]{1,10}){0,3}(?![\w-])", re.IGNORECASE
)


def _alike(parts: Sequence[str]) -> bool:
    """True where all groups have three characters or more: over tabs and lines a short one is another figure."""
    return all(len(group) >= 3 for part in parts for group in re.split("[ -]", part))


@detector(
    "document_number",
    kinds=tuple(CUES),
    evidence=SpanEvidence.CONTEXT,
    reads="numbers",
    joins=_alike,
    example=("passport number: X1234567", "X1234567"),
)
def document_number(text: str) -> Iterator[Span]:
    """The first number or mix of letters and at least four digits in the 40 characters after such words."""
    if not any(char.isdigit() for char in text):
        return
    for kind, words in CUES.items():
        for word in words.finditer(text):
            for match in _VALUE.finditer(text, word.end(), min(len(text), word.end() + REACH + 30)):
                if match.start() - word.end() > REACH:
                    break
                if sum(char.isdigit() for char in match[0]) >= 4:
                    yield Span(start=match.start(), end=match.end(), kind=kind)
                    break
