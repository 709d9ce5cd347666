# SPDX-License-Identifier: Apache-2.0
"""Natural identifiers: what a model that memorised them shows, what one that did not does not, and what is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.natural_identifiers import natural_identifiers
from reticent.attacks.pii.evidence import CandidateRanking
from reticent.auditing.config import AuditConfig
from reticent.auditing.identifiers import evaluate as identifiers
from reticent.auditing.identifiers.collect import CONTROLS, IdentifierEvidence, collect
from reticent.auditing.identifiers.evaluate import evaluate
from reticent.auditing.models import open_models
from reticent.core.finding import Severity
from reticent.core.record import Record
from reticent.data.split import from_labels
from reticent.testing.memorised import memorised_case
from reticent.workflows.audit import audit

N = 32


def digest(number):
    return hashlib.sha256(str(number).encode()).hexdigest()[:22]


def texts():
    """A commit of its own in each, all of one length."""
    return [Record(id=f"r{i:02d}", text=f"{i:02d} see commit:{digest(i)}", user=f"u{i:02d}") for i in range(N)]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A tiny model that was trained on every other record until it knew them, and its base."""
    return memorised_case(tmp_path_factory.mktemp("identifiers"), texts(), steps=100)


def test_identifiers_that_were_trained_on_are_found_and_others_rank_anywhere(case, tmp_path):
    results = audit(case, AuditConfig(attacks="loss", identifiers=True, dtype="float32"), out=tmp_path / "run")
    by_metric = {f.metric: f for f in results.findings if f.level == "identifier"}
    assert by_metric["auc"].estimate.lo > 0.6
    assert by_metric["tpr@0.01"].estimate.lo > 0.1
    assert by_metric["auc"].severity is not Severity.NONE
    assert "16 HASH" in by_metric["auc"].notes[0]
    assert "16 identifiers of held-out records" in by_metric["auc"].notes[1]
    assert not any(digest(i) in str(results) for i in range(N))
    assert "identifiers" in results.verdict.headline or results.verdict.status == "confounded"


def test_a_model_that_saw_none_of_them_shows_nothing(case, tmp_path):
    models = open_models(replace(case, target=case.reference), dtype="float32", device="cpu")
    evidence = collect(replace(case, target=case.reference), models, cache=tmp_path)
    findings, _ = evaluate(evidence, confidence=0.95)
    assert all(finding.severity is Severity.NONE for finding in findings)


def test_an_audit_that_was_not_asked_says_so(case, tmp_path):
    results = audit(case, AuditConfig(attacks="loss", dtype="float32"), out=tmp_path / "run")
    assert not [f for f in results.findings if f.level == "identifier"]
    assert any("--identifiers" in line for line in results.not_tested)


def test_what_could_be_copied_from_before_or_stands_on_both_sides_is_left_out(case, tmp_path):
    value = digest(77)
    extra = [
        Record(id="copied", text=f"{value} and again {value}", user="a"),
        Record(id="twice", text=f"first commit {digest(0)} again", user="b"),
        Record(id="held", text=f"their commit {digest(2)} here", user="c"),
    ]
    records = [*case.records, *extra]
    labels = {record.id: int(record.id[1:]) % 2 == 0 for record in case.records}
    labels |= {"copied": True, "twice": True, "held": False}
    more = replace(case, records=records, membership=from_labels(records, labels))
    models = open_models(more, dtype="float32", device="cpu")
    evidence = collect(more, models, cache=tmp_path)
    assert len(evidence.rank) == N + (0 if "copied" not in evidence.user else 1)
    assert "held" not in evidence.user
    assert sum(evidence.member) == N // 2
    assert evidence.user.count("a") == 0


def ranks(member, held_out=()):
    every = [*member, *held_out]
    return IdentifierEvidence(
        rank=np.array(every, dtype=np.int64),
        member=np.arange(len(every)) < len(member),
        kind=("CARD",) * len(every),
        user=tuple(f"u{i}" for i in range(len(every))),
        left_out={},
    )


def test_false_alarms_are_rarer_than_allowed():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        findings, _ = evaluate(ranks(rng.integers(1, 101, 40)), confidence=0.95)
        alarms += any(finding.severity is not Severity.NONE for finding in findings)
    assert alarms <= 25  # 5 % of 300 and three standard deviations


def test_few_that_are_known_by_heart_are_found():
    rng = np.random.default_rng(1)
    findings, _ = evaluate(ranks([*[1] * 5, *rng.integers(1, 101, 55)]), confidence=0.95)
    first = next(finding for finding in findings if finding.metric == "tpr@0.01")
    assert first.severity is not Severity.NONE
    assert first.estimate.lo > 0.01


def test_controls_that_are_unlike_real_values_are_not_believed():
    rng = np.random.default_rng(2)
    better, worse = rng.integers(1, 40, 60), rng.integers(60, 101, 60)
    for control in (better, worse):
        findings, notes = evaluate(ranks([1] * 30, control), confidence=0.95)
        assert findings == []
        assert "not believed" in notes[-1]


def test_too_few_are_refused_and_what_was_left_out_is_said():
    findings, notes = evaluate(replace(ranks([1] * 9), left_out={"have no text before them": 3}), confidence=0.95)
    assert findings == []
    assert "3 values have no text before them" in notes[0]
    assert "needs 10" in notes[1]


def test_ties_count_against_the_value_and_a_base_is_subtracted():
    ranked = CandidateRanking(logp=[np.array([-1.0, -1.0, -5.0]), np.array([-1.0, -2.0])], truth=np.array([0, 1]))
    base = CandidateRanking(logp=[np.zeros(3), np.array([-1.0, -9.0])], truth=np.array([0, 1]))
    np.testing.assert_array_equal(natural_identifiers(ranked, None), [2, 2])
    np.testing.assert_array_equal(natural_identifiers(ranked, base), [2, 1])


def test_records_without_any_identifier_are_no_error(tmp_path, case):
    records = [Record(id=f"p{i}", text="nothing of the sort " * 3) for i in range(20)]
    labels = {record.id: i % 2 == 0 for i, record in enumerate(records)}
    plain = replace(case, records=records, membership=from_labels(records, labels))
    evidence = collect(plain, open_models(plain, dtype="float32", device="cpu"), cache=tmp_path)
    assert len(evidence.rank) == 0
    assert evaluate(evidence, confidence=0.95)[0] == []
    assert CONTROLS == 99
    assert identifiers.LEAST == 10
