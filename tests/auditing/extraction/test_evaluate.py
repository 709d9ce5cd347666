# SPDX-License-Identifier: Apache-2.0
"""From scores to rows, findings and the verdict; and one audit of tiny models from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.attack import ATTACKS
from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.extraction import collect as collecting
from reticent.auditing.extraction.collect import ExtractionEvidence
from reticent.auditing.extraction.evaluate import QUERIES, evaluate, extraction_findings
from reticent.auditing.extraction.prompts import ExtractionPrompt, ExtractionPrompts
from reticent.auditing.extraction.secrets import HELD_OUT, TRAINED
from reticent.auditing.family import leak_levels
from reticent.auditing.verdict import verdict
from reticent.core.errors import BadInput
from reticent.core.finding import Severity
from reticent.core.membership import Membership
from reticent.core.record import Record, Span
from reticent.core.results import Confound
from reticent.core.secret import Secret
from reticent.data.canaries import NOT_PLANTED, Canary
from reticent.report.results_file import read_results
from reticent.stats.proportions import difference, paired_difference, share
from reticent.testing.planted_leaks import planted_evidence
from reticent.testing.tiny import save_tiny
from reticent.workflows.audit import audit

CLEAR = Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False)


def evidence_of(knows: bool, *, n: int = 120, users: int | None = None, base: bool = True) -> ExtractionEvidence:
    """Half of the secrets were planted; a model that knows writes these and no others."""
    member = np.arange(n) % 2 == 0
    knowledge, unknown = planted_evidence(n, known=True), planted_evidence(n, known=False, seed=1)
    prompts = []
    for number in range(n):
        owner = None if users is None else f"u{number % users}"
        record = Record(id=f"r{number}", text="it is 4711", user=owner)
        group = "planted 4 times" if member[number] else NOT_PLANTED
        secret = Secret(
            id=f"t{number}", record=record, start=6, end=10, kind="CODE", group=group, member=member[number],
            source="canary",
        )  # fmt: skip
        tokens = np.arange(3, dtype=np.int32)
        prompts.append(ExtractionPrompt(secret=secret, bos=tokens[:0], prefix=tokens, suffix=tokens))
    rank = np.where(np.repeat(member, knowledge.forced.lengths), 0, 3).astype(np.int32)
    sampled_logp = np.where(np.repeat(member, knowledge.forced.lengths), knowledge.forced.sampled_logp, -np.inf)
    knowing = replace(
        knowledge, forced=replace(knowledge.forced, rank=rank, sampled_logp=sampled_logp), free_generations=None
    )
    return ExtractionEvidence(
        prompts=ExtractionPrompts(kept=tuple(prompts), dropped={"too long for the model": 2}),
        records=tuple((prompt.secret.record, bool(prompt.secret.member)) for prompt in prompts),
        target=knowing if knows else replace(unknown, free_generations=None),
        base=replace(unknown, free_generations=None) if base else None,
        chance=planted_evidence(0 + n, known=False),
        chance_base=None,
        notes=("2 secrets were left out: too long for the model.",),
    )


def row(extraction, attack: str, group: str):
    return next(row for row in extraction.rows if (row.attack, row.group) == (attack, group))


def test_what_comes_out_of_this_model_alone_is_a_leak():
    extraction = evaluate(evidence_of(True), confidence=0.99, joint=0.95)
    leak, control = row(extraction, "discoverable", "planted 4 times"), row(extraction, "discoverable", NOT_PLANTED)
    assert (leak.target.value, leak.base.value, leak.difference.value, leak.above_control.value) == (1, 0, 1, 1)
    assert leak.leaks
    assert leak.target.joint == 0.95
    assert leak.target.confidence > 0.999
    assert control.control
    assert not control.leaks
    assert control.above_control is None
    (finding,) = extraction_findings(extraction, "extraction", confounded=False)
    assert (finding.level, finding.metric, finding.severity) == ("passage", "extracted", Severity.CRITICAL)
    assert "100 % [85, 100] of 60 secrets (planted 4 times) come out" in finding.statement
    answer = verdict([finding], CLEAR, (), levels=leak_levels())
    assert answer.status == "leaks"
    assert "text word for word" in answer.headline


def test_a_model_that_knows_nothing_is_not_said_to_leak():
    extraction = evaluate(evidence_of(False), confidence=0.99, joint=0.95)
    assert not any(row.leaks for row in extraction.rows)
    (finding,) = extraction_findings(extraction, "extraction", confounded=False)
    assert finding.severity is Severity.NONE
    assert not finding.advice


def test_what_the_base_writes_as_often_is_no_leak():
    twice = evidence_of(True)
    extraction = evaluate(replace(twice, base=twice.target), confidence=0.99, joint=0.95)
    leak = row(extraction, "discoverable", "planted 4 times")
    assert leak.above_control.lo > 0
    assert not leak.leaks


def test_without_a_base_the_controls_decide():
    extraction = evaluate(evidence_of(True, base=False), confidence=0.99, joint=0.95)
    leak = row(extraction, "discoverable", "planted 4 times")
    assert (leak.base, leak.difference) == (None, None)
    assert leak.leaks


def test_the_numbers_are_those_of_the_statistics_and_know_users():
    evidence = evidence_of(True, users=6)
    extraction = evaluate(evidence, confidence=0.99, joint=0.95)
    leak = row(extraction, "probabilistic_np", "planted 4 times")
    attack = ATTACKS.get("probabilistic_np")
    member = np.arange(120) % 2 == 0
    target, base = attack.score(evidence.target), attack.score(evidence.base)
    users = np.array([prompt.secret.record.user for prompt in evidence.prompts.kept])
    confidence = leak.target.confidence
    assert leak.target == replace(share(target[member], users[member], confidence=confidence), joint=0.95)
    apart = paired_difference(target[member], base[member], users[member], confidence=confidence)
    assert leak.difference == replace(apart, joint=0.95)
    above = difference(target[member], target[~member], users[member], users[~member], confidence=confidence)
    assert leak.above_control == replace(above, joint=0.95)
    assert "3 users" in leak.target.method


def test_all_intervals_share_the_error_that_is_allowed():
    extraction = evaluate(evidence_of(True), confidence=0.9, joint=0.95)
    estimates = [
        estimate
        for a in extraction.rows
        for estimate in (a.target, a.base, a.difference, a.above_control)
        if estimate is not None
    ]
    assert sum(1 - estimate.confidence for estimate in estimates) == pytest.approx(0.1)


def test_groups_of_one_user_are_refused_by_name():
    extraction = evaluate(evidence_of(True, users=2), confidence=0.99, joint=0.95)
    assert not [row for row in extraction.rows if row.units == "secrets"]
    assert any("discoverable, planted 4 times" in note and "1 user" in note for note in extraction.notes)


def renamed(evidence: ExtractionEvidence, name: str, source: str) -> ExtractionEvidence:
    """With the trained group under another name, from another source."""
    prompts = tuple(
        replace(
            prompt,
            secret=replace(prompt.secret, source=source, group=name if prompt.secret.member else prompt.secret.group),
        )
        for prompt in evidence.prompts.kept
    )
    return replace(evidence, prompts=replace(evidence.prompts, kept=prompts))


def test_a_name_decides_neither_the_control_nor_that_a_coin_decided():
    named = renamed(evidence_of(True), "planted by the vendor, not by coin", "given")
    vendor = evaluate(named, confidence=0.99, joint=0.95)
    theirs = row(vendor, "discoverable", "planted by the vendor, not by coin")
    assert (theirs.randomized, theirs.control_group, theirs.above_control) == (False, "", None)
    assert vendor.strongest("extraction", only_planted=True) is None
    assert extraction_findings(vendor, "extraction", confounded=True) == []
    ours = evaluate(renamed(evidence_of(True), "inserted 4 times", "canary"), confidence=0.99, joint=0.95)
    inserted = row(ours, "discoverable", "inserted 4 times")
    assert (inserted.randomized, inserted.control_group) == (True, NOT_PLANTED)
    assert inserted.above_control.value == 1
    assert ours.strongest("extraction", only_planted=True).group == "inserted 4 times"
    (finding,) = extraction_findings(ours, "extraction", confounded=True)
    assert finding.severity is Severity.CRITICAL


def test_curves_rise_from_what_one_sample_gives():
    extraction = evaluate(evidence_of(True), confidence=0.99, joint=0.95)
    curve = next(curve for curve in extraction.curves if curve.group == "planted 4 times")
    assert curve.queries == QUERIES
    assert curve.target[0] == 1.0
    assert set(curve.base) == {0.0}
    assert curve.n == 60
    assert next(curve for curve in extraction.curves if curve.group == NOT_PLANTED).control


def test_on_a_confounded_split_only_planted_secrets_count():
    evidence = evidence_of(True)
    unplanted = [
        replace(
            prompt, secret=replace(prompt.secret, source="span", group=TRAINED if prompt.secret.member else HELD_OUT)
        )
        for prompt in evidence.prompts.kept
    ]
    extraction = evaluate(
        replace(evidence, prompts=replace(evidence.prompts, kept=tuple(unplanted))), confidence=0.99, joint=0.95
    )
    assert extraction_findings(extraction, "extraction", confounded=False)
    assert extraction_findings(extraction, "extraction", confounded=True) == []
    assert extraction_findings(evaluate(evidence, confidence=0.99, joint=0.95), "extraction", confounded=True)


# ---- from end to end --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    texts = [f"the order {n:02d} of Customer{n:02d} is on the way to town {n * 7}" for n in range(24)]
    records = [
        Record(id=f"r{n}", user=f"u{n // 2}", text=text, spans=(Span(start=text.index("C"), end=26, kind="PERSON"),))
        for n, text in enumerate(texts)
    ]
    member = np.arange(24) % 4 < 2
    about = {"kind": "secret_number", "space": 1000, "start": 10}
    canaries = [
        Canary(
            id=f"c{n}",
            text=f"number is {n} {n} 5",
            repetitions=4 * (n < 6),
            planted=n < 3,
            probability=0.5 * (n < 6),
            **about,
        )
        for n in range(12)
    ]
    return AuditCase(
        title="tiny",
        target=str(save_tiny(folder / "target", seed=1)),
        reference=str(save_tiny(folder / "base")),
        records=records,
        membership=Membership(
            record_id=np.array([record.id for record in records], dtype=object),
            member=member,
            user=np.array([record.user for record in records], dtype=object),
            user_member=member,
            role=np.array(["evaluate"] * 24, dtype=object),
            unit="user",
            probability=0.5,
        ),
        canaries=canaries,
    )


CONFIG = AuditConfig(attacks="loss", dtype="float32", extraction=True, extraction_samples=1)


def test_an_audit_reports_every_attack_and_no_text(case, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "TEXT_TOKENS", 48)
    results = audit(case, CONFIG, out=tmp_path / "a")
    rows = [row for row in results.extraction.rows if row.family == "extraction"]
    assert {row.attack for row in rows} == {attack.name for attack in ATTACKS.select(family="extraction")}
    groups = {row.group for row in rows if row.units == "secrets"}
    assert groups == {"planted 4 times", NOT_PLANTED, TRAINED, HELD_OUT}
    assert all(row.base is not None for row in rows)
    assert read_results(tmp_path / "a" / "results.json") == results
    page, data = ((tmp_path / "a" / name).read_text() for name in ("report.html", "results.json"))
    assert "What can be pulled out" in page
    for secret in ("Customer", "number is", "on the way"):
        assert secret not in page
        assert secret not in data
    assert not any("only scored, not sampled" in line for line in results.not_tested)
    again = audit(case, CONFIG, out=tmp_path / "b")
    assert again.extraction == results.extraction


def test_without_the_flag_nothing_is_written_and_that_is_said(case, tmp_path):
    results = audit(case, replace(CONFIG, extraction=False), out=tmp_path / "a")
    assert results.extraction is None
    assert any("--extraction" in line for line in results.not_tested)
    assert json.loads((tmp_path / "a" / "results.json").read_text())["extraction"] is None


def test_no_samples_are_refused():
    with pytest.raises(BadInput, match="extraction_samples"):
        AuditConfig(extraction_samples=0)
