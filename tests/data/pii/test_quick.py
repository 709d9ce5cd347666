# SPDX-License-Identifier: Apache-2.0
"""Quick ways to read texts find what the plain ones find: stretches of words once, regions at once, without scores."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from reticent.data.pii import choose, entity_model, phone_regions, word_windows
from reticent.data.pii.detect import candidates_in
from reticent.data.pii.detectors import names, presidio
from reticent.data.pii.phone_regions import phone_places, plain_places
from reticent.testing.written_numbers import written_numbers

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

    def read(texts: list[str]) -> list[list[str]]:
        if "b" in texts:
            names.model_entities(["another thread's"])
        return [[text] for text in texts]

    monkeypatch.setattr(names, "reader", lambda: read)
    monkeypatch.setattr(names._last, "held", {})
    assert names.model_entities(["a"]) == [["a"]]
    assert names.model_entities(["a", "b"]) == [["a"], ["b"]]


def pipeline() -> Any:
    """spaCy's own reading with its own products of matrices, as long as `entity_reader` has not seen it."""
    import spacy

    return spacy.load(names.MODEL, exclude=names.UNUSED)


def made_up_texts(count: int, seed: int) -> list[str]:
    """Texts of words that names are made of, of others, marks, numbers and blanks, in any order; some parts again."""
    rng = random.Random(seed)
    words = [
        "Maria",
        "Lopez",
        "of",
        "the",
        "Bank",
        "Chicago",
        "wrote",
        "to",
        "Dr.",
        "Patel",
        "New York",
        "on",
        "Monday",
    ]
    words += [
        ",",
        ".",
        "\n",
        "\n\n",
        "  ",
        "\t",
        "(",
        ")",
        "&",
        "$",
        "20",
        "%",
        "3rd",
        "and",
        "for",
        "Oslo's",
        "e-mail",
    ]
    words += [
        "IBM",
        "GmbH",
        "\u00dcmit",
        "\u5317\u4eac",
        "he",
        "said",
        "that",
        "it",
        "is",
        '"',
        "one",
        "two",
        "million",
    ]
    words += ["ana@example.org", "http://a.example.com/x", "MIT"]
    texts: list[str] = []
    for _ in range(count):
        made = [rng.choice(words) + rng.choice(("", " ", " ", " ")) for _ in range(rng.choice((0, 1, 2, 8, 40, 120)))]
        quoted = rng.choice(texts)[: rng.randrange(200)] if texts and rng.random() < 0.5 else ""
        texts.append(quoted + "".join(made))
    return texts


def test_half_a_surrogate_pair_hides_no_name() -> None:
    text = f"\ud800 {TEXTS[0]}"
    for find in (names.names, presidio.presidio):
        assert "Maria Lopez" in [text[span.start : span.end] for span in find(text)]


@pytest.mark.parametrize(("limit", "words"), [(word_windows.LIMIT, entity_model.WORDS), (150, 60)])
def test_stretches_that_are_read_once_give_the_entities_of_the_pipeline(
    monkeypatch: pytest.MonkeyPatch, limit: int, words: int
) -> None:
    """All texts at once and in small portions, with stretches remembered and forgotten in between."""
    monkeypatch.setattr(word_windows, "LIMIT", limit)
    monkeypatch.setattr(entity_model, "WORDS", words)
    texts = [*TEXTS, *made_up_texts(80, seed=3)]
    expected = entity_model.piped(pipeline(), texts)
    assert sum(map(len, expected)) > 200
    assert {len(text) == 0 for text in texts} == {True, False}
    model = entity_model.EntityModel(names.model())
    assert model(texts) == expected
    assert model(texts[::-1]) == expected[::-1]
    assert [model([text])[0] for text in texts[:40]] == expected[:40]


def test_the_installed_pipeline_is_read_by_stretches_and_one_that_differs_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pipeline of other parts, and one in which the fast way finds something else, are left to spaCy."""
    assert isinstance(names.reader(), entity_model.EntityModel)
    other = pipeline()
    expected = entity_model.piped(other, TEXTS)
    other.add_pipe("sentencizer", first=True)
    sentences = entity_model.entity_reader(other)
    assert not isinstance(sentences, entity_model.EntityModel)
    assert sentences(TEXTS) == entity_model.piped(other, TEXTS)
    monkeypatch.setattr(entity_model.Moves, "entities", lambda self, documents, vectors: [[] for _ in documents])
    wrong = entity_model.entity_reader(names.model())
    assert not isinstance(wrong, entity_model.EntityModel)
    assert wrong(TEXTS) == expected


def test_rows_are_made_once_for_each_key() -> None:
    made: list[list[int]] = []

    def rows(keys: Any) -> Any:
        made.extend(keys.tolist())
        return keys.astype(np.float32) * 2

    table = word_windows.Table(2)
    rng = np.random.default_rng(5)
    for size in (1, 7, 3000, 500):
        keys = rng.integers(0, 60, (size, 2))
        numbers = table.number(keys, rows)
        assert (table.rows[numbers] == keys * 2).all()
    assert len(made) == len({tuple(key) for key in made}) == len(table)


def test_all_regions_at_once_find_the_telephone_numbers_of_each() -> None:
    """Texts of digits and marks in any order, and numbers as people write them, beside the plain matchers."""
    rng = random.Random(7)
    signs = "0123456789" * 4 + " -.()/+x:,\n#" * 2 + "abA$%\u00fc\u0664"
    texts = ["".join(rng.choices(signs, k=rng.randrange(90))) for _ in range(150)]
    texts += [row.text for row in written_numbers(200, seed=9)]
    texts += ["call 030/23125 001 or 2002-08-23 10:15, 12(3): 211-227 (2003), +44 20 7946 0018x12 / 212 555 0142"]
    regions = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")
    expected = [plain_places(text, regions, 1) for text in texts]
    assert [phone_places(text, regions, 1) for text in texts] == expected
    assert sum(map(len, expected)) > 40


def test_a_release_of_the_matcher_with_other_steps_is_used_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phone_regions, "STEPS", ((phone_regions.PhoneNumberMatcher, "_no_such_step"),))
    text = "call 212-555-0142 now"
    assert phone_places(text, ("US", "GB"), 1) == plain_places(text, ("US", "GB"), 1) == {(5, 17)}


def test_a_process_that_looks_for_names_loads_no_torch() -> None:
    """It finds what this process finds; modules that were only hidden can be imported afterwards."""
    code = (
        "import io, json, sys\n"
        "from reticent.data.pii.worker import absent, serve\n"
        f"out = io.StringIO(); serve('names,presidio', [json.dumps({TEXTS!r})], out)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "with absent(['wave']): assert __import__('importlib.util').util.find_spec('json') and 'wave' in sys.modules\n"
        "import wave; print(out.getvalue())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    here = candidates_in(TEXTS, choose("names,presidio"))
    rows = [[[one.start, one.end, one.kind, int(one.evidence), one.detector] for one in found] for found in here]
    assert json.loads(done.stdout) == rows
    assert sum(map(len, rows)) > 10


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
