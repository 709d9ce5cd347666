# SPDX-License-Identifier: Apache-2.0
"""Planted secrets as an audit family: a rank test decides that a tier was learned, exposure measures it in bits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reticent.auditing.attack_kind import AttackKind
from reticent.auditing.canaries.collect import CanaryEvidence, collect
from reticent.auditing.canaries.evaluate import TierTest, exposures, findings, nll, tier_tests
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.family import FamilySection, Judgement, Prepared, family
from reticent.auditing.leak_level import LeakLevel
from reticent.stats.hypothesis import holm
from reticent.stats.max_t import HypothesisGroup

TIERS = "tiers"
WEIGHT = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class TestedTiers:
    """Canary tables with the test of each planted tier."""

    evidence: CanaryEvidence
    tests: tuple[TierTest, ...]


def prepare(evidence: CanaryEvidence, judgement: Judgement) -> Prepared:
    """Test each planted tier against secrets that were never planted."""
    tests = tier_tests(judgement.case.canaries, nll(evidence.target))
    group = HypothesisGroup(1.0, holm([test.p for test in tests]))
    claims = (Claim(name=TIERS, weight=WEIGHT, groups=(group,)),) if tests else ()
    return Prepared(evidence=TestedTiers(evidence=evidence, tests=tests), claims=claims)


def evaluate(tested: TestedTiers, judgement: Judgement, allowance: Allowance) -> FamilySection:
    """Exposure of each tier in bits, and a finding for each planted tier."""
    losses = nll(tested.evidence.target)
    tiers = tuple(
        replace(tier, bits=replace(tier.bits, joint=judgement.config.confidence))
        for tier in exposures(judgement.case.canaries, losses, confidence=allowance.confidence(TIERS))
    )
    (p_values,) = allowance.p.get(TIERS, ((),))
    return FamilySection(
        findings=findings(tiers, [float(p) for p in p_values], allowance.error),
        fields={"exposure": tiers},
    )


CANARIES = family(
    name="canaries",
    order=20,
    collect=collect,
    prepare=prepare,
    evaluate=evaluate,
    levels=(LeakLevel(name="canary", words="planted secrets", place=4, randomized=True),),
    kinds=(
        AttackKind(
            name="Planted secrets",
            asks="how far up the model ranks made-up secrets that it was trained on",
            try_it="`reticent tune --canaries 100` plants some",
            tried=lambda results: bool(results.exposure),
        ),
    ),
)
