# SPDX-License-Identifier: Apache-2.0
"""Dates of birth: dates after words that say so. Other dates are in every text and are left alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context_words import cue, cued
from reticent.data.pii.detector import SpanEvidence, detector
from reticent.data.pii.reading import DASHES

MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]{0,6}\.?"
_GAP = rf"(?:[ \t]{{1,3}}|[ \t]{{0,2}}[/.{DASHES}-][ \t]{{0,2}}(?:\r?\n[ \t>]{{0,4}})?|[ \t]{{0,2}}\r?\n[ \t>]{{0,4}})"
DATE = re.compile(
    rf"(?<![\w/.-])(?:[0-9]{{1,4}}[ ]?([/.-])[ ]?[0-9]{{1,2}}[ ]?\1[ ]?[0-9]{{2,4}}"
    rf"|(?:[0-9]{{1,2}} [0-9]{{1,2}}|[0-9]{{2}} [0-9]{{2}}) (?:19|20)[0-9]{{2}}"
    rf"|(?:19|20)[0-9]{{2}} [0-9]{{2}} [0-9]{{2}}"
    rf"|(?:19|20)[0-9]{{2}}\u3001[ ]?[0-9]{{1,2}}\u3001[ ]?[0-9]{{1,2}}"
    rf"|[0-9]{{1,2}}(?:st|nd|rd|th)?{_GAP}(?:of )?{MONTH},?{_GAP}[0-9]{{4}}"
    rf"|{MONTH}{_GAP}[0-9]{{1,2}}(?:st|nd|rd|th)?,?{_GAP}[0-9]{{4}}|[0-9]{{8}})(?![\w/-])",
    re.IGNORECASE,
)
_CUE = cue(
    "born",
    "d\\.?o\\.?b\\.?",
    "(?:date|day|year) of birth",
    "birth ?date",
    "birthday",
    "birth",
    "n\u00e9e?",
    "geboren",
    "geburtsdatum",
    "date de naissance",
    "fecha de nacimiento",
)


@detector(
    "date_of_birth",
    kinds=("DATE_OF_BIRTH",),
    evidence=SpanEvidence.CONTEXT,
    reads="numbers",
    joins=any,
    example=("born on 12 March 1980 in", "12 March 1980"),
)
def date_of_birth(text: str) -> Iterator[Span]:
    """Dates with a year, in figures or with a month's name, after "born", "date of birth" and the like."""
    for match in cued(text, DATE.finditer(text), _CUE):
        yield Span(start=match.start(), end=match.end(), kind="DATE_OF_BIRTH")
