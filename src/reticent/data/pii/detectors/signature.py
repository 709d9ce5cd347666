# SPDX-License-Identifier: Apache-2.0
"""Names under letters and mails: the line behind "Kind regards" and the like. Needs no model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context_words import NAME_PART
from reticent.data.pii.detector import SpanEvidence, detector

_CLOSING = (
    r"(?i:yours(?: (?:sincerely|faithfully|truly|respectfully|ever))?|sincerely(?: yours)?|respectfully(?: yours)?|"
    r"(?:(?:kind|best|warm|warmest|kindest|many|with|all|my) ){0,3}(?:regards|wishes|thanks|gratitude|love|"
    r"appreciation|respect)|all the best|best|cordially|cheers|thanks(?: (?:again|so much|a lot|in advance))?|"
    r"thank you(?: (?:again|very much|so much|in advance))?|take care|love)"
)
_NAME = rf"{NAME_PART}(?:[ \t]{{1,2}}{NAME_PART}){{0,3}}"
SIGNED = re.compile(
    rf"^[ \t>]{{0,8}}{_CLOSING}[,.!;:]{{0,3}}[ \t]{{0,8}}\r?\n(?:[ \t>]{{0,8}}\r?\n)?[ \t>-]{{0,8}}(?P<name>{_NAME})"
    r"[,.]?[ \t]{0,8}(?=\r?$)",
    re.MULTILINE,
)
_NOBODY = re.compile(r"(?:Team|Support|Sent|Management|Customer|Office|Department|Staff|The)\b")


@detector(
    "signature",
    kinds=("PERSON",),
    evidence=SpanEvidence.CONTEXT,
    reads="even",
    example=("See you then.\nKind regards,\nAda Quill", "Ada Quill"),
)
def signature(text: str) -> Iterator[Span]:
    """One to four capitalised words that stand alone on the line behind a complimentary close."""
    for match in SIGNED.finditer(text):
        if not _NOBODY.search(match["name"]):
            yield Span(start=match.start("name"), end=match.end("name"), kind="PERSON")
