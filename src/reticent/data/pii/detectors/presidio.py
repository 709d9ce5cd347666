# SPDX-License-Identifier: Apache-2.0
"""Microsoft Presidio's default analyzer as a detector: for comparison, or beside our own. Needs the extra ``pii``."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector
from reticent.data.pii.detectors.names import INSTALL, MODEL, chunks, model, model_entities
from reticent.data.pii.phone_regions import phone_places

KINDS = {
    "PERSON": "PERSON",
    "ORGANIZATION": "ORGANISATION",
    "LOCATION": "LOCATION",
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CARD",
    "IBAN_CODE": "IBAN",
    "US_SSN": "US_SSN",
    "IP_ADDRESS": "IP_ADDRESS",
    "MAC_ADDRESS": "MAC_ADDRESS",
    "CRYPTO": "CRYPTO_WALLET",
    "US_DRIVER_LICENSE": "DRIVER_LICENCE",
    "US_PASSPORT": "PASSPORT",
    "US_BANK_NUMBER": "BANK_ACCOUNT",
    "US_ITIN": "NATIONAL_ID",
    "UK_NHS": "NATIONAL_ID",
    "MEDICAL_LICENSE": "MEDICAL_RECORD",
}
"""Presidio's types → ours. Dates, web addresses and nationalities are left out: only context makes them personal."""


def missing() -> str:
    """The text on what to install; empty where all is there."""
    there = all(importlib.util.find_spec(name) is not None for name in ("presidio_analyzer", "spacy", MODEL))
    return "" if there else INSTALL


def found_in(texts: Sequence[str]) -> Iterator[list[Span]]:
    """For each text what `presidio` gives."""
    parts = [(number, start, text[start:end]) for number, text in enumerate(texts) for start, end in chunks(text)]
    read = analyzer().nlp_engine.process_batch([text for *_, text in parts], "en")
    per_text: list[list[Span]] = [[] for _ in texts]
    for (number, start, text), (_, artifacts) in zip(parts, read, strict=True):
        for result in analyzer().analyze(text, language="en", entities=_types(), nlp_artifacts=artifacts):
            per_text[number].append(
                Span(start=start + result.start, end=start + result.end, kind=KINDS[result.entity_type])
            )
    yield from per_text


@detector(
    "presidio",
    kinds=tuple(KINDS.values()),
    evidence=SpanEvidence.MODEL,
    missing=missing,
    default=False,
    find_many=found_in,
    example=("Write to ana@example.org about it.", "ana@example.org"),
)
def presidio(text: str) -> Iterator[Span]:
    """All that Presidio's default English analyzer finds, on the small spaCy model, without the network."""
    yield from next(found_in([text]))


@cache
def analyzer() -> Any:
    """Presidio's default analyzer. Left to itself it would download a model and a list of internet domains.

    Words around a find only move its score, and every score counts here: lemmas and tags, which are read for that
    alone, are not made.
    """
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NerModelConfiguration, NlpEngineProvider, SpacyNlpEngine

    tldextract.tldextract.TLD_EXTRACTOR.suffix_list_urls = ()  # the list that comes with the package is used
    default = NlpEngineProvider(conf_file=_default_configuration()).nlp_configuration
    engine = SpacyNlpEngine(
        models=[{"lang_code": "en", "model_name": MODEL}],
        ner_model_configuration=NerModelConfiguration.from_dict(default["ner_model_configuration"]),
    )
    engine.nlp = {"en": _SharedModel()}
    whole = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"], context_aware_enhancer=_no_context())
    whole.registry.recognizers = [_quick(recognizer) for recognizer in whole.registry.recognizers]
    return whole


@cache
def _types() -> list[str]:
    """Those of its types that are marked: Presidio does not look for the others."""
    there = set(analyzer().get_supported_entities("en"))
    return [name for name in KINDS if name in there]


class _SharedModel:
    """A spaCy model as far as Presidio knows it, given by the one that reads names: a text that was just read is not
    read again."""

    @property
    def vocab(self) -> Any:
        return model().vocab

    def pipe(self, texts: Iterable[str], **_: Any) -> list[_Document]:
        texts = list(texts)
        read = zip(texts, model_entities(texts), strict=True)
        return [_Document(text, [_Span(*entity) for entity in entities]) for text, entities in read]

    def __call__(self, text: str) -> _Document:
        return self.pipe([text])[0]


@dataclass
class _Span:
    """A spaCy span as far as Presidio knows it: it puts its own label there."""

    start_char: int
    end_char: int
    label_: str


class _Document(NamedTuple):
    """A spaCy document without its words, which Presidio reads for scores alone."""

    text: str
    ents: Sequence[_Span]

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _quick(recognizer: Any) -> Any:
    """The recogniser; for that of telephone numbers one that finds the same, all regions at once."""
    from presidio_analyzer import EntityRecognizer, RecognizerResult
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

    if type(recognizer) is not PhoneRecognizer:
        return recognizer

    class Phones(PhoneRecognizer):  # type: ignore[misc]
        def analyze(self, text: str, entities: Any, nlp_artifacts: Any = None) -> Any:
            places = phone_places(text, tuple(self.supported_regions), self.leniency)
            kind = self.supported_entities[0]
            results = [RecognizerResult(kind, start, end, self.SCORE) for start, end in sorted(places)]
            return EntityRecognizer.remove_duplicates(results)

    return Phones(
        context=recognizer.context,
        supported_language=recognizer.supported_language,
        supported_entity=recognizer.supported_entities[0],
        supported_regions=recognizer.supported_regions,
        leniency=recognizer.leniency,
    )


def _no_context() -> Any:
    from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer

    class NoContext(ContextAwareEnhancer):  # type: ignore[misc]
        def enhance_using_context(self, text: str, raw_results: Any, *_: Any, **__: Any) -> Any:
            return raw_results

    return NoContext(0, 0, 0, 0)


def _default_configuration() -> str:
    from pathlib import Path

    import presidio_analyzer

    return str(Path(presidio_analyzer.__file__).parent / "conf" / "default.yaml")
