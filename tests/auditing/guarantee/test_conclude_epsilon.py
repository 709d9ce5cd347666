# SPDX-License-Identifier: Apache-2.0
"""A whole conclusion over bounds on ε and tiers of secrets: what counts, what stands by itself, what costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.auditing.canaries.collect import CanaryEvidence
from reticent.auditing.case import AuditCase
from reticent.auditing.conclude import conclude
from reticent.auditing.config import AuditConfig
from reticent.auditing.guarantee.family import GuaranteeEvidence
from reticent.auditing.membership.collect import MembershipEvidence
from reticent.core.finding import Severity
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.core.results import Confound, Results
from reticent.core.table import TokenTable
from reticent.data.canaries import Canary

CLEAN = Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False)


def audited(inside: int, outside: int, *, shift: float = 0.0, secrets: int = 0, gain: float = 0.0) -> Results:
    """Records with coins of their own, and secrets of which half were planted, scored by two attacks."""
    rng = np.random.default_rng(0)
    n = inside + outside
    member = np.arange(n) < inside
    none = np.full(n, None)
    membership = Membership(
        record_id=np.arange(n).astype(str).astype(object), member=member, user=none, user_member=member,
        role=np.full(n, "evaluate", dtype=object), unit="record", probability=0.5,
    )  # fmt: skip
    canaries = [
        Canary(id=f"canary/x/{i}", kind="x", repetitions=4, planted=i % 2 == 0, text="", space=10**6, probability=0.5)
        for i in range(secrets)
    ] + [
        Canary(id=f"canary/x/c{i}", kind="x", repetitions=0, planted=False, text="", space=10**6, probability=0.0)
        for i in range(100 * bool(secrets))
    ]
    losses = rng.normal(5, 1, len(canaries)) - gain * np.array([canary.planted for canary in canaries])
    table = TokenTable(
        rows={"record_id": np.arange(len(canaries)).astype(str)},
        tokens={"logp": -losses, "loss_mask": np.ones(len(canaries), dtype=bool)},
        offsets=np.arange(len(canaries) + 1),
    )
    score = rng.normal(shift * member)
    evidence = MembershipEvidence(
        membership=membership, scores={"wbc": score, "loss": rng.normal(0.3 * shift * member)}, notes={},
        dropped=0,
    )  # fmt: skip
    records = [Record(id=str(i), text=f"text {i}") for i in range(n)]
    case = AuditCase(title="t", target="t", reference=None, records=records, membership=membership, canaries=canaries)
    collected = {
        "membership": evidence,
        "canaries": CanaryEvidence(target=table) if secrets else None,
        "guarantee": GuaranteeEvidence(recorded=None),
    }
    return conclude(case, collected, CLEAN, AuditConfig(), key="k")


@pytest.mark.parametrize(("inside", "outside"), [(30, 300), (300, 30)])
def test_sides_that_no_fair_coin_gives_do_not_cost_the_audit(inside: int, outside: int) -> None:
    results = audited(inside, outside, shift=2.0)
    assert results.verdict.status == "leaks"
    assert any(finding.metric == "auc" for finding in results.findings)
    assert not any(finding.metric == "epsilon_lower" for finding in results.findings)
    assert sum(finding.metric == "epsilon_if" for finding in results.findings) == 4
    assert sum(line.startswith("ε in one run, from records") for line in results.not_tested) == 1


def test_one_bound_counts_and_the_others_stand_by_themselves() -> None:
    results = audited(150, 150, shift=3.0)
    (primary,) = (finding for finding in results.findings if finding.metric == "epsilon_lower")
    others = [finding for finding in results.findings if finding.metric == "epsilon_if"]
    assert (primary.attack, primary.estimate.joint) == ("wbc", 0.95)
    assert "no assumption" in primary.statement
    assert primary.severity is not Severity.NONE
    assert len(others) == 5
    assert {(finding.severity, finding.estimate.joint, finding.estimate.confidence) for finding in others} == {
        (Severity.NONE, None, 0.95)
    }
    assert max(finding.estimate.value for finding in others) > primary.estimate.value


@pytest.mark.parametrize(("gain", "leaks"), [(0.0, False), (9.0, True)])
def test_four_secrets_leak_only_if_they_were_learned(gain: float, leaks: bool) -> None:
    results = audited(40, 40, secrets=8, gain=gain)
    (tier,) = (finding for finding in results.findings if finding.metric == "exposure_bits")
    assert tier.severity is (Severity.MEDIUM if leaks else Severity.NONE)
    assert tier.p_value is not None
    assert (tier.p_value < 1e-4) == leaks
    assert (results.verdict.status == "leaks") == leaks
