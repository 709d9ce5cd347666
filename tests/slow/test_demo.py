# SPDX-License-Identifier: Apache-2.0
"""The demo on the real model: what it must find, and what an audit of the base against itself must not."""

from __future__ import annotations

import pytest

from reticent.auditing.case import AuditCase, from_run
from reticent.core.run_folder import RunFolder
from reticent.workflows.audit import audit
from reticent.workflows.demo import AUDIT, MODEL, demo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "run"
    _, results = demo(root)
    return RunFolder(root=root), results


def aucs(results, level):
    return {f.attack: f.estimate for f in results.findings if f.level == level and f.metric == "auc"}


def test_members_users_and_secrets_are_found(run):
    _, results = run
    records, users = aucs(results, "record"), aucs(results, "user")
    assert max(records["ref_ratio"].lo, records["ez_mia"].lo) > 0.8
    assert users["ref_ratio:mean"].value > 0.6
    tiers = {tier.repetitions: tier.bits for tier in results.exposure}
    assert tiers[16].value > tiers[0].value + 2
    judged = [finding for finding in results.findings if finding.metric == "exposure_bits"]
    often = next(finding for finding in judged if "16 times" in finding.statement)
    assert often.p_value is not None
    assert often.p_value < 0.05
    assert not results.confound.separable
    assert results.verdict.status == "leaks"


def test_the_base_against_itself_shows_nothing(run, tmp_path):
    made, _ = run
    tuned = from_run(made)
    base = AuditCase(
        title="base against itself",
        target=MODEL,
        reference=MODEL,
        records=tuned.records,
        membership=tuned.membership,
        max_tokens=tuned.max_tokens,
    )
    results = audit(base, AUDIT, out=tmp_path / "null")
    assert {test.level for test in results.tests} >= {"record", "user"}
    assert min(test.p_value for test in results.tests) > 0.05
    assert any("compared with itself" in sentence for sentence in results.verdict.sentences)
    assert results.verdict.status == "not_detected"
    assert any("would have been seen" in sentence for sentence in results.verdict.sentences)
