# SPDX-License-Identifier: Apache-2.0
"""Microsoft Presidio's default analyzer as a detector: for comparison, or beside our own. Needs the extra ``pii``."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache
from typing import Any

from reticent.core.record import Span
from reticent.data.pii.detector import Evidence, detector
from reticent.data.pii.detectors.names import INSTALL, MODEL, chunks

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
    """What to install, or nothing."""
    there = all(importlib.util.find_spec(name) is not None for name in ("presidio_analyzer", "spacy", MODEL))
    return "" if there else INSTALL


@detector("presidio", kinds=tuple(KINDS.values()), evidence=Evidence.MODEL, missing=missing, default=False)
def presidio(text: str) -> Iterator[Span]:
    """All that Presidio's default English analyzer finds, on the small spaCy model, without the network."""
    for begin, end in chunks(text):
        for found in analyzer().analyze(text[begin:end], language="en"):
            if found.entity_type in KINDS:
                yield Span(start=begin + found.start, end=begin + found.end, kind=KINDS[found.entity_type])


@cache
def analyzer() -> Any:
    """Presidio's default analyzer. Left to itself it would download a model and a list of internet domains."""
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    tldextract.tldextract.TLD_EXTRACTOR.suffix_list_urls = ()  # the list that comes with the package is used
    provider = NlpEngineProvider(conf_file=_default_configuration())
    provider.nlp_configuration["models"] = [{"lang_code": "en", "model_name": MODEL}]
    engine = provider.create_engine()
    engine.nlp["en"].disable_pipes("parser")  # its recognisers read entities and lemmas, never the syntax
    return AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])


def _default_configuration() -> str:
    from pathlib import Path

    import presidio_analyzer

    return str(Path(presidio_analyzer.__file__).parent / "conf" / "default.yaml")
