# SPDX-License-Identifier: Apache-2.0
"""Auditors that look inside: what they find in a model that memorised, and how it enters an audit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.attack import ATTACKS
from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.membership.evaluate import judge_alone
from reticent.auditing.membership.level import AttackScores, Level
from reticent.auditing.membership.whitebox import auditors, whitebox_scores
from reticent.core.finding import Severity, ThreatModel
from reticent.core.record import Record
from reticent.data.split import from_labels
from reticent.score.internals.internals import Internals
from reticent.testing.memorised import memorised
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.workflows.audit import audit

N = 100

NAMES = ["whitebox_auditor", "hidden_auditor", "loss_auditor"]


def words(n=N, seed=0):
    """Texts of eight words of three letters, of the same tokens each."""
    rng = np.random.default_rng(seed)
    vocabulary = ["".join(rng.choice(list("bcdfgjkmpqvwxyz"), 3)) for _ in range(20)]
    return [Record(id=f"r{i}", text=" ".join(rng.choice(vocabulary, 8)), user=f"u{i // 2}") for i in range(n)]


@pytest.fixture(scope="module")
def audited():
    """A tiny model that was trained on every other record until it knew them."""
    records = words()
    return memorised(records, steps=40), tiny_tokenizer(), records, np.arange(N) % 2 == 0


def test_what_was_memorised_is_found_and_the_controls_find_nothing(audited):
    model, tokenizer, records, member = audited
    users = np.array([record.user for record in records], dtype=object)
    scored, refused = whitebox_scores(model, tiny_model(seed=1), tokenizer, records, member, users)
    assert [attack.name for attack in scored] == NAMES
    assert refused == []
    assert [attack.threat.access for attack in scored] == ["grad", "hidden", "logprob"]
    level = Level(name="record", member=member, cluster=users, attacks=scored, what="members against others")
    by_attack = {f.attack: f for f in judge_alone(level).findings if f.metric == "auc"}
    assert all(finding.estimate.lo > 0.6 for finding in by_attack.values())
    assert all("mean over 2 halves" in finding.estimate.method for finding in by_attack.values())
    assert any("reconstruction" in note for note in by_attack["whitebox_auditor"].notes)
    assert any("control between two halves" in note for note in by_attack["whitebox_auditor"].notes)


def test_noise_is_no_finding():
    rng = np.random.default_rng(0)
    member = np.arange(N) % 2 == 0
    internals = Internals(
        forward={"loss": rng.normal(size=N), "hidden_norm.0": rng.random(N)},
        backward={"gradient_norm": rng.random(N)},
    )
    level = Level(name="record", member=member, cluster=None, attacks=(), what="")
    scored, _ = auditors(internals, level, seed=0)
    outcome = judge_alone(replace(level, attacks=scored))
    assert all(finding.severity is Severity.NONE for finding in outcome.findings)


def test_halves_that_differ_are_not_believed(monkeypatch):
    """A control that finds something: the auditor is refused by name, with the number."""
    member = np.arange(N) % 2 == 0
    rng = np.random.default_rng(0)
    internals = Internals(forward={"loss": rng.normal(size=N)}, backward={})
    estimate = type("Estimate", (), {"lo": 0.7, "value": 0.8, "hi": 0.9})()
    monkeypatch.setattr("reticent.auditing.membership.whitebox.auc_of", lambda *a, **k: estimate)
    scored, refused = auditors(
        internals, Level(name="record", member=member, cluster=None, attacks=(), what=""), seed=0
    )
    assert scored == []
    assert all("not believed" in line for line in refused)


def test_too_few_records_are_refused_once():
    member = np.arange(30) % 2 == 0
    internals = Internals(forward={"loss": np.arange(30.0)}, backward={})
    scored, refused = auditors(
        internals, Level(name="record", member=member, cluster=None, attacks=(), what=""), seed=0
    )
    assert scored == ()
    assert len(refused) == 1


def test_an_audit_takes_them_into_its_joint_intervals(audited, tmp_path):
    model, tokenizer, records, member = audited
    base = save_tiny(tmp_path / "base", seed=1)
    model.save_pretrained(tmp_path / "target")
    tokenizer.save_pretrained(tmp_path / "target")
    labels = {record.id: bool(m) for record, m in zip(records, member, strict=True)}
    case = AuditCase(
        title="tiny",
        target=str(tmp_path / "target"),
        reference=str(base),
        records=records,
        membership=from_labels(records, labels, known_fraction=0.0),
    )
    config = AuditConfig(attacks="loss,ref_diff", whitebox=True, dtype="float32")
    results = audit(case, config, out=tmp_path / "run")
    by_metric = {(f.attack, f.metric): f for f in results.findings if f.level == "record"}
    assert {(name, "auc") for name in NAMES} | {("discrepancy", "advantage")} <= set(by_metric)
    assert all(by_metric[name, "auc"].p_value < 0.05 for name in NAMES)
    assert by_metric["discrepancy", "advantage"].estimate.lo > 0.2
    listed = {run.name: run for run in results.attacks}
    assert listed["whitebox_auditor"].access == "grad"
    assert listed["whitebox_auditor"].paper == "arXiv:2411.07070"
    without = audit(case, replace(config, whitebox=False), out=tmp_path / "other")
    assert not {f.attack for f in without.findings} & set(NAMES)
    assert any("--whitebox" in line for line in without.not_tested)


def test_a_discrepancy_counts_as_one_interval_more():
    rng = np.random.default_rng(0)
    member = np.arange(120) < 60
    score = rng.normal(size=120) + member
    level = Level(
        name="record",
        member=member,
        cluster=None,
        attacks=[AttackScores(name="a", score=score, threat=ThreatModel(access="logprob"))],
        what="",
        together=score[:, None],
    )
    by_metric = {f.metric: f for f in judge_alone(level).findings}
    assert set(by_metric) == {"auc", "advantage"}
    assert by_metric["auc"].estimate.confidence == pytest.approx(0.955)
    assert by_metric["advantage"].estimate.confidence == pytest.approx(0.995)
    assert by_metric["advantage"].p_value is None
    assert by_metric["advantage"].threat.access == "logprob"
    confounded = judge_alone(level, confounded=True).findings
    assert all(finding.severity is Severity.NONE for finding in confounded)
    few = judge_alone(replace(level, member=np.arange(120) < 12))
    assert any("discrepancy" in line for line in few.refused)


def test_the_registered_auditors_are_those_that_the_audit_runs():
    rng = np.random.default_rng(0)
    member = np.arange(120) % 2 == 0
    owner = np.array([f"u{row // 3}" for row in range(120)], dtype=object)
    columns = {name: rng.normal(size=120) + member for name in ("loss", "hidden_moved.1", "gradient_cosine.a")}
    forward = {name: column for name, column in columns.items() if not name.startswith("gradient")}
    found = Internals(forward=forward, backward={"gradient_cosine.a": columns["gradient_cosine.a"]})
    level = Level(name="record", member=member, cluster=owner, attacks=(), what="members against others")
    scored, _ = auditors(found, level, 0)
    assert [one.name for one in scored] == NAMES
    for one in scored:
        evidence = {"internals": columns, "member": member, "user": owner}
        np.testing.assert_array_equal(one.score, ATTACKS.get(one.name).score(evidence))
