# SPDX-License-Identifier: Apache-2.0
"""The whole path on a tiny model: it memorizes planted canaries and its own records, and the audit must find them."""

from __future__ import annotations

import json
import re

import pytest

from reticent.auditing.config import AuditConfig
from reticent.core.finding import Severity
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.tradeoff import of_gaussian
from reticent.report.match import verify
from reticent.report.results_file import read_results
from reticent.testing.random_mails import random_mails
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.workflows.audit import audit
from reticent.workflows.gate import gate
from reticent.workflows.tune import CanaryConfig, SplitConfig, tune


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("end-to-end")
    base = save_tiny(folder / "base")
    made = tune(
        random_mails(users=48, mails_per_user=6, habits=True),
        base=str(base),
        out=folder / "run",
        title="tiny",
        split_config=SplitConfig(split_unit="user"),
        canary_config=CanaryConfig(canaries=36, canary_controls=120),
        tune_config=TuneConfig(epochs=20, learning_rate=1e-2, batch_size=8, max_tokens=96, dtype="float32"),
    )
    results = audit(made, AuditConfig(dtype="float32"))
    return made, results


def test_the_results_name_the_model_and_not_the_data_where_a_model_belongs(run):
    made, results = run
    assert results.provenance["models"]["target"] == f"{made.root.name}/model"
    assert str(made.root.parent) not in made.results.read_text(encoding="utf-8")
    page = made.report.read_text(encoding="utf-8")
    assert f"<dd>{made.root.name}/model, fine-tuned (full) from base</dd>" in page
    assert verify(made.results, made.report).matches
    words = " ".join(results.verdict.sentences)
    assert "an attacker picks the right one" in words
    assert not re.search(r"\bauc\b|[a-z]_[a-z]|\w:(mean|max|min)\b", words)


def test_members_are_found(run):
    _, results = run
    aucs = {f.attack: f.estimate for f in results.findings if f.level == "record" and f.metric == "auc"}
    assert max(estimate.lo for estimate in aucs.values()) > 0.6
    assert results.verdict.status == "leaks"


def test_canaries_that_were_planted_often_are_exposed_and_controls_are_not(run):
    _, results = run
    tiers = {tier.repetitions: tier for tier in results.exposure}
    assert tiers[16].bits.value > 4 > tiers[0].bits.value
    judged = {
        finding.statement.split(" have ")[0]: finding for finding in results.findings if finding.level == "canary"
    }
    often = next(one for said, one in judged.items() if "16 times" in said and one.metric == "exposure_bits")
    assert often.p_value is not None
    assert often.p_value < 0.05


def test_the_split_is_not_confounded(run):
    _, results = run
    assert not results.confound.separable


def test_what_is_written_is_what_was_found_and_holds_no_text(run):
    made, results = run
    assert read_results(made.results) == results
    page, data = made.report.read_text(), made.results.read_text()
    for secret in ("secret number is", "user 1", "u1m1", "parcel refund"):
        assert secret not in page
        assert secret not in data
    assert json.loads(data)["findings"]


def test_the_same_audit_again_gives_the_same_numbers(run):
    made, results = run
    again = audit(made, AuditConfig(dtype="float32"))
    assert again.findings == results.findings
    assert again.exposure == results.exposure


def test_a_promise_that_no_noise_kept_is_found_to_be_broken(run, tmp_path):
    """Beside the model, which was trained without noise, lies a promise."""
    made, _ = run
    said = PrivacyGuarantee(
        epsilon=0.2,
        delta=1e-5,
        unit="user",
        neighbouring="add or remove one user",
        mechanism="Poisson-sampled Gaussian mechanism",
        accountant="PLD accountant",
        noise_multiplier=30.0,
        rate=0.1,
        steps=10,
        units=48,
        check=0.3,
        allowed=of_gaussian(0.1).allowed(1e-5),
    )
    made.promise.write_text(said.to_json(), encoding="utf-8")
    try:
        results = audit(made, AuditConfig(dtype="float32"), out=tmp_path / "audit")
    finally:
        made.promise.unlink()
    assert results.promise.auc.lo > results.promise.auc_limit
    assert "promise is broken" in results.verdict.headline
    broken = [finding for finding in results.findings if finding.metric == "promise_broken"]
    assert {finding.severity for finding in broken} == {Severity.CRITICAL}
    assert said.sentence() in broken[0].statement
    assert "The promise is broken" in (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert gate(results, max_auc=1.0).exit_code == 1
