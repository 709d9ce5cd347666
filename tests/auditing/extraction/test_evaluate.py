# SPDX-License-Identifier: Apache-2.0
"""From scores to rows, findings and the verdict; and one audit of tiny models from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.extraction import EXTRACTIONS
from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.extraction import collect as pull
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
from reticent.testing.extraction_conformance import planted_evidence
from reticent.testing.tiny import save_tiny
from reticent.workflows.audit import audit

CLEAR = Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False)


def pulled(knows: bool, *, n: int = 120, users: int | None = None, base: bool = True) -> ExtractionEvidence:
    """Half of the secrets were planted; a model that knows writes these and no others."""
    member = np.arange(n) % 2 == 0
    known, unknown = planted_evidence(n, known=True), planted_evidence(n, known=False, seed=1)
    passages = []
    for number in range(n):
        owner = None if users is None else f"u{number % users}"
        record = Record(id=f"r{number}", text="it is 4711", user=owner)
        group = "planted 4 times" if member[number] else NOT_PLANTED
        target = Secret(
            id=f"t{number}", record=record, start=6, end=10, kind="CODE", group=group, member=member[number]
        )
        tokens = np.arange(3, dtype=np.int32)
        passages.append(ExtractionPrompt(target=target, lead=tokens[:0], prefix=tokens, secret=tokens))
    rank = np.where(np.repeat(member, known.forced.lengths), 0, 3).astype(np.int32)
    drawn = np.where(np.repeat(member, known.forced.lengths), known.forced.drawn, -np.inf)
    knowing = replace(known, forced=replace(known.forced, rank=rank, drawn=drawn), drawn=None)
    return ExtractionEvidence(
        passages=ExtractionPrompts(kept=tuple(passages), dropped={"too long for the model": 2}),
        records=tuple((one.target.record, bool(one.target.member)) for one in passages),
        target=knowing if knows else replace(unknown, drawn=None),
        base=replace(unknown, drawn=None) if base else None,
        chance=planted_evidence(0 + n, known=False),
        chance_base=None,
        notes=("2 secrets were left out: too long for the model.",),
    )


def row(found, attack: str, group: str):
    return next(one for one in found.rows if (one.attack, one.group) == (attack, group))


def test_what_comes_out_of_this_model_alone_is_a_leak():
    found = evaluate(pulled(True), confidence=0.99, joint=0.95)
    leak, control = row(found, "discoverable", "planted 4 times"), row(found, "discoverable", NOT_PLANTED)
    assert (leak.target.value, leak.base.value, leak.difference.value, leak.above_control.value) == (1, 0, 1, 1)
    assert leak.leaks
    assert leak.target.joint == 0.95
    assert leak.target.confidence > 0.999
    assert control.control
    assert not control.leaks
    assert control.above_control is None
    (finding,) = extraction_findings(found, "extraction", confounded=False)
    assert (finding.level, finding.metric, finding.severity) == ("passage", "extracted", Severity.CRITICAL)
    assert "100 % [85, 100] of 60 secrets (planted 4 times) come out" in finding.statement
    said = verdict([finding], CLEAR, (), levels=leak_levels())
    assert said.status == "leaks"
    assert "text word for word" in said.headline


def test_a_model_that_knows_nothing_is_not_said_to_leak():
    found = evaluate(pulled(False), confidence=0.99, joint=0.95)
    assert not any(one.leaks for one in found.rows)
    (finding,) = extraction_findings(found, "extraction", confounded=False)
    assert finding.severity is Severity.NONE
    assert not finding.advice


def test_what_the_base_writes_as_often_is_no_leak():
    twice = pulled(True)
    found = evaluate(replace(twice, base=twice.target), confidence=0.99, joint=0.95)
    leak = row(found, "discoverable", "planted 4 times")
    assert leak.above_control.lo > 0
    assert not leak.leaks


def test_without_a_base_the_controls_decide():
    found = evaluate(pulled(True, base=False), confidence=0.99, joint=0.95)
    leak = row(found, "discoverable", "planted 4 times")
    assert (leak.base, leak.difference) == (None, None)
    assert leak.leaks


def test_the_numbers_are_those_of_the_statistics_and_know_users():
    made = pulled(True, users=6)
    found = evaluate(made, confidence=0.99, joint=0.95)
    leak = row(found, "probabilistic_np", "planted 4 times")
    attack = EXTRACTIONS.get("probabilistic_np")
    member = np.arange(120) % 2 == 0
    mine, base = attack.score(made.target), attack.score(made.base)
    users = np.array([one.target.record.user for one in made.passages.kept])
    each = leak.target.confidence
    assert leak.target == replace(share(mine[member], users[member], confidence=each), joint=0.95)
    apart = paired_difference(mine[member], base[member], users[member], confidence=each)
    assert leak.difference == replace(apart, joint=0.95)
    above = difference(mine[member], mine[~member], users[member], users[~member], confidence=each)
    assert leak.above_control == replace(above, joint=0.95)
    assert "3 users" in leak.target.method


def test_all_intervals_share_the_error_that_is_allowed():
    found = evaluate(pulled(True), confidence=0.9, joint=0.95)
    shown = [one for a in found.rows for one in (a.target, a.base, a.difference, a.above_control) if one is not None]
    assert sum(1 - one.confidence for one in shown) == pytest.approx(0.1)


def test_groups_of_one_user_are_refused_by_name():
    found = evaluate(pulled(True, users=2), confidence=0.99, joint=0.95)
    assert not [one for one in found.rows if one.units == "secrets"]
    assert any("discoverable, planted 4 times" in note and "1 user" in note for note in found.notes)


def test_curves_rise_from_what_one_sample_gives():
    found = evaluate(pulled(True), confidence=0.99, joint=0.95)
    curve = next(one for one in found.curves if one.group == "planted 4 times")
    assert curve.queries == QUERIES
    assert curve.target[0] == 1.0
    assert set(curve.base) == {0.0}
    assert curve.n == 60
    assert next(one for one in found.curves if one.group == NOT_PLANTED).control


def test_on_a_confounded_split_only_planted_secrets_count():
    made = pulled(True)
    kept = [
        replace(one, target=replace(one.target, group=TRAINED if one.target.member else HELD_OUT))
        for one in made.passages.kept
    ]
    found = evaluate(replace(made, passages=replace(made.passages, kept=tuple(kept))), confidence=0.99, joint=0.95)
    assert extraction_findings(found, "extraction", confounded=False)
    assert extraction_findings(found, "extraction", confounded=True) == []
    assert extraction_findings(evaluate(made, confidence=0.99, joint=0.95), "extraction", confounded=True)


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
            record_id=np.array([one.id for one in records], dtype=object),
            member=member,
            user=np.array([one.user for one in records], dtype=object),
            user_member=member,
            role=np.array(["evaluate"] * 24, dtype=object),
            unit="user",
            probability=0.5,
        ),
        canaries=canaries,
    )


CONFIG = AuditConfig(attacks="loss", dtype="float32", extraction=True, extraction_samples=1)


def test_an_audit_reports_every_attack_and_no_text(case, tmp_path, monkeypatch):
    monkeypatch.setattr(pull, "TEXT_TOKENS", 48)
    results = audit(case, CONFIG, out=tmp_path / "a")
    rows = [one for one in results.extraction.rows if one.family == "extraction"]
    assert {one.attack for one in rows} == set(EXTRACTIONS.names())
    groups = {one.group for one in rows if one.units == "secrets"}
    assert groups == {"planted 4 times", NOT_PLANTED, TRAINED, HELD_OUT}
    assert all(one.base is not None for one in rows)
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
