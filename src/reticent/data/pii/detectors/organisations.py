# SPDX-License-Identifier: Apache-2.0
"""Names of organisations by spaCy's small English model: only when named, since most of what it takes for one is none.

On the two public sets of `benchmarks/pii_detection.py` one in four is right, and in mails fewer: "Have a great weekend"
becomes a firm. Scrubbed with it, mails cannot be read any more, and the same firm stays in other places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector
from reticent.data.pii.detectors.names import entities, missing, spans

KINDS = {"ORG": "ORGANISATION"}


def organisations_in(texts: Sequence[str]) -> Iterator[list[Span]]:
    """For each text what `organisations` gives."""
    for text, text_entities in zip(texts, entities(texts), strict=True):
        yield list(spans(text, text_entities, KINDS))


@detector(
    "organisations",
    kinds=("ORGANISATION",),
    evidence=SpanEvidence.MODEL,
    missing=missing,
    default=False,
    reads="even",
    find_many=organisations_in,
    second_look=False,
    example=("She worked for Microsoft Corporation in those years.", "Microsoft Corporation"),
)
def organisations(text: str) -> Iterator[Span]:
    """Organisations in English text; a quarter of what it finds is one."""
    yield from next(organisations_in([text]))
