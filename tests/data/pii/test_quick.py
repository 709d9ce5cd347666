# SPDX-License-Identifier: Apache-2.0
"""Models that are read in batches, with other matrix products and without what only scores need, find the same."""

from __future__ import annotations

import pytest

from reticent.data.pii.detectors import names, presidio

pytestmark = pytest.mark.skipif(bool(presidio.missing()), reason=presidio.missing())

TEXTS = [
    "Please call Maria Lopez in Chicago at 212-555-0142 about passport number 123456789.",
    "",
    "My driver's license is D1234567 and my bank account number is 945456787654.",
    "Send it to ana.vogel@example.org, card 4111 1111 1111 1111, IBAN DE89370400440532013000. " * 3,
    "NHS number 401 023 2137, medical license BB1388568; ITIN 912-70-1234, SSN 078-05-1120.",
    "Nothing here but words: the meeting moves to Thursday, and lunch is at noon.",
    "Wire to 0x32Be343B94f860124dC4fEe278FDCBD38C102D88 or 1BoatSLRHtKNngkdXEeobR76b53LETtpyT from 10.0.0.7.",
]


def test_names_in_a_text_do_not_depend_on_its_company() -> None:
    together = list(names.names_in(TEXTS * 6))
    assert together == [found for _ in range(6) for text in TEXTS for found in names.names_in([text])]
    assert any(together)


def test_another_reader_in_between_takes_no_text_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processes that look for names have ended, several threads of this one read at once."""

    class Model:
        def pipe(self, texts: list[str], batch_size: int) -> list[str]:
            if "b" in texts:
                names.documents(["another thread's"])
            return texts

    monkeypatch.setattr(names, "model", Model)
    monkeypatch.setattr(names._last, "held", {})
    assert names.documents(["a"]) == ["a"]
    assert names.documents(["a", "b"]) == ["a", "b"]


def test_matrix_products_of_both_libraries_find_the_same_names() -> None:
    import spacy

    slow = spacy.load(names.MODEL)
    for text in TEXTS:
        found = [(one.start_char, one.end_char, one.label_) for one in slow(text).ents]
        assert next(names.entities([text])) == found


def test_presidio_finds_what_its_default_analyzer_finds() -> None:
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    presidio.analyzer()  # keeps the network out of what follows
    provider = NlpEngineProvider(conf_file=presidio._default_configuration())
    provider.nlp_configuration["models"] = [{"lang_code": "en", "model_name": names.MODEL}]
    default = AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])
    for text, ours in zip(TEXTS, presidio.found_in(TEXTS), strict=True):
        found = [one for one in default.analyze(text, language="en") if one.entity_type in presidio.KINDS]
        theirs = {(presidio.KINDS[one.entity_type], one.start, one.end) for one in found}
        assert {(one.kind, one.start, one.end) for one in ours} == theirs
        alone = [one for one in presidio.analyzer().analyze(text, language="en") if one.entity_type in presidio.KINDS]
        assert {(presidio.KINDS[one.entity_type], one.start, one.end) for one in alone} == theirs
    assert theirs
