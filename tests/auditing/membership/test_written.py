# SPDX-License-Identifier: Apache-2.0
"""Continuations of the beginnings of records, and an audit by an attacker who sees nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reticent.auditing.config import AuditConfig
from reticent.auditing.membership import written as continued
from reticent.auditing.membership.written import continuations, cut
from reticent.auditing.models import open_models
from reticent.core.record import Message, Record
from reticent.data.split import from_labels
from reticent.score.generation import generate
from reticent.testing.memorised import memorised_case
from reticent.testing.tiny import tiny_tokenizer
from reticent.workflows.audit import audit

N = 60


def texts(n=N, seed=0):
    """Texts of eight words of three letters."""
    rng = np.random.default_rng(seed)
    vocabulary = ["".join(rng.choice(list("bcdfgjkmpqvwxyz"), 3)) for _ in range(60)]
    return [Record(id=f"r{i}", text=" ".join(rng.choice(vocabulary, 8))) for i in range(n)]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A tiny model that was trained on every other record until it knew them, and its base."""
    return memorised_case(tmp_path_factory.mktemp("continued"), texts(), steps=150)


def of_record(results, attack="ngram_coverage"):
    return {f.metric: f for f in results.findings if (f.attack, f.level) == (attack, "record")}


def test_members_are_found_by_what_is_written_alone(case, tmp_path):
    config = AuditConfig(attacks="ngram_coverage", written_samples=3, dtype="float32")
    results = audit(case, config, out=tmp_path / "run")
    auc = of_record(results)["auc"]
    assert auc.estimate.lo > 0.7
    assert auc.threat.access == "text"
    assert auc.threat.needs == ("the base model",)
    assert not any(record.text in str(results) for record in case.records)


def test_null_data_give_no_finding(case, tmp_path):
    """Records that neither side trained on: a model of other texts."""
    records = texts(seed=9)
    labels = {record.id: i % 2 == 0 for i, record in enumerate(records)}
    other = replace(case, records=records, membership=from_labels(records, labels, known_fraction=0.0))
    config = AuditConfig(attacks="ngram_coverage", written_samples=3, dtype="float32")
    auc = of_record(audit(other, config, out=tmp_path / "run"))["auc"]
    assert auc.estimate.lo <= 0.5 <= auc.estimate.hi


def test_what_was_written_is_not_written_again(case, tmp_path, monkeypatch):
    models = open_models(case, dtype="float32", device="cpu")
    options = {"names": ("written", "written_ref"), "samples": 2, "seed": 0, "cache": tmp_path}
    first = continuations(case, models, **options)
    monkeypatch.setattr(generate, "_generate", None)
    again = continuations(case, models, **options)
    assert again["written"].texts == first["written"].texts
    assert again["written_ref"].texts == first["written_ref"].texts
    assert first["written"].rest == first["written_ref"].rest
    assert all(len(samples) == 2 for samples in first["written"].texts)
    only = continuations(case, models, **{**options, "names": ("written",)})
    assert set(only) == {"written"}


def test_a_record_is_cut_in_the_middle_of_what_is_trained_on(monkeypatch):
    tokenizer = tiny_tokenizer()
    plain = Record(id="a", text="one two three four five six")
    whole = tokenizer(plain.text)["input_ids"]
    cut_record = cut(plain, tokenizer, None, None)
    assert [*cut_record.given, *cut_record.rest] == whole
    assert abs(len(cut_record.given) - len(cut_record.rest)) <= 2
    pair = Record(id="b", prompt="question ", completion="an answer of words")
    cut_record = cut(pair, tokenizer, None, None)
    prompt = tokenizer(pair.prompt, add_special_tokens=False)["input_ids"]
    assert list(cut_record.given[: len(prompt)]) == prompt
    assert len(cut_record.given) > len(prompt)
    shorter = cut(plain, tokenizer, 6, None)
    assert [*shorter.given, *shorter.rest] == whole[:6]
    monkeypatch.setattr(continued, "REST", 3)
    monkeypatch.setattr(continued, "PREFIX", 4)
    cut_record = cut(Record(id="c", text=plain.text * 9), tokenizer, None, None)
    assert (len(cut_record.given), len(cut_record.rest)) == (4, 3)
    assert len(cut(Record(id="c", text=plain.text * 9), tokenizer, None, 5).given) == 2


@pytest.mark.parametrize("text", ["", "a"])
def test_a_record_without_a_place_to_be_cut_is_left_out(text):
    assert cut(Record(id="a", text=text), tiny_tokenizer(), None, None) is None


def test_a_chat_goes_on_within_its_turn():
    tokenizer = tiny_tokenizer()
    turns = (
        Message(role="user", content="hello there"),
        Message(role="assistant", content="a b"),
        Message(role="user", content="more of it please"),
        Message(role="assistant", content="yes"),
    )
    if not getattr(tokenizer, "chat_template", None):
        tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    cut_record = cut(Record(id="a", messages=turns), tokenizer, None, None)
    assert "more" not in tokenizer.decode(cut_record.rest.tolist())
