# SPDX-License-Identifier: Apache-2.0
"""Which units have fair coins of their own, and that all bounds made from them hold together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reticent.auditing.epsilon import (
    Thrown,
    all_thrown,
    epsilon_bounds,
    epsilon_finding,
    thrown_for_level,
    thrown_for_secrets,
)
from reticent.auditing.evidence import Evidence
from reticent.auditing.level import Level, Scored
from reticent.auditing.scored import Units
from reticent.core.finding import Severity, ThreatModel
from reticent.core.membership import Membership
from reticent.core.table import TokenTable
from reticent.data.canaries import Canary
from reticent.stats.epsilon import gdp_epsilon

THREAT = ThreatModel(access="logprob")


def level_of(name: str = "record", shift: float = 3.0, n: int = 400, attack: str = "ref_ratio") -> Level:
    rng = np.random.default_rng(0)
    member = rng.random(n) < 0.5
    scored = Scored(name=attack, score=rng.normal(shift * member), threat=THREAT)
    return Level(name=name, member=member, cluster=None, attacks=[scored], what="")


def secrets(n: int = 120, repetitions: tuple[int, ...] = (1, 4, 16), probability: float = 0.5) -> list[Canary]:
    rng = np.random.default_rng(1)
    with_coin = [
        Canary(
            id=f"canary/x/{i}",
            kind="x",
            repetitions=repetitions[i % len(repetitions)],
            planted=bool(rng.random() < probability),
            text="",
            space=10**6,
            probability=probability,
        )
        for i in range(n)
    ]
    control = replace(with_coin[0], id="canary/x/control", repetitions=0, planted=False, probability=0.0)
    return [*with_coin, control, control]


def table(losses: np.ndarray) -> TokenTable:
    """Texts of two tokens, of which the second is trained on and has this loss."""
    n = len(losses)
    return TokenTable(
        rows={"record_id": np.arange(n).astype(str)},
        tokens={"logp": -np.stack([np.full(n, 9.0), losses], 1).ravel(), "loss_mask": np.tile([False, True], n)},
        offsets=2 * np.arange(n + 1),
    )


def evidence(canaries: list[Canary], gain: float, *, reference: bool = True) -> Evidence:
    """Secrets of very different difficulty; planted ones lose ``gain`` nats."""
    rng = np.random.default_rng(2)
    hard = rng.normal(5, 3, len(canaries))
    planted = np.array([canary.planted for canary in canaries])
    none = np.array([], dtype=object)
    coins = Membership(
        record_id=none, member=none.astype(bool), user=none, user_member=none.astype(bool), role=none, unit="user",
        probability=0.5,
    )  # fmt: skip
    return Evidence(
        coins=coins,
        scores={},
        notes={},
        canaries=table(hard - gain * planted + rng.normal(0, 0.1, len(canaries))),
        canaries_ref=table(hard) if reference else None,
        dropped=0,
    )


@pytest.mark.parametrize(
    ("level", "coins", "bounded"),
    [
        (level_of("record"), {"unit": "record", "probability": 0.5}, "record"),
        (level_of("user", attack="ref_ratio:mean"), {"unit": "user", "probability": 0.5}, "user"),
        (level_of("canary", attack="user_inference"), {"unit": "user", "probability": 0.5}, "user"),
        (level_of("record"), {"unit": "user", "probability": 0.5}, None),
        (level_of("canary", attack="user_inference"), {"unit": "record", "probability": 0.5}, None),
        (level_of("record"), {"unit": "record", "probability": 0.3}, None),
        (level_of("record"), {"unit": "given", "probability": float("nan")}, None),
        (level_of("record", attack="zlib"), {"unit": "record", "probability": 0.5}, None),
        (level_of("record", n=8), {"unit": "record", "probability": 0.5}, None),
    ],
)
def test_only_what_had_fair_coins_of_its_own_is_bounded(level: Level, coins: dict[str, Any], bounded: str | None):
    thrown = thrown_for_level(level, **coins, confounded=False)
    assert (thrown.unit if thrown else None) == bounded
    if thrown is not None:
        bounds = epsilon_bounds([thrown], delta=1e-5, confidence=0.95)
        assert len(bounds) == 3
        for bound in bounds:
            assert bound.estimate.value > 0
            assert bound.estimate.unit == f"nats (δ = 1e-05, one {bounded} added or removed)"
            assert epsilon_finding(bound).level == level.name


def test_a_secret_is_a_record_if_planted_once_and_a_user_with_all_its_copies():
    canaries = secrets()
    once = thrown_for_secrets(canaries, evidence(canaries, 1.0), unit="record")
    users = thrown_for_secrets(canaries, evidence(canaries, 1.0), unit="user")
    assert once is not None
    assert users is not None
    assert (once.unit, len(once.member)) == ("record", 40)
    assert once.member.tolist() == [canary.planted for canary in canaries[:120:3]]
    assert (users.unit, len(users.member)) == ("user", 120)  # controls had no coin
    assert thrown_for_secrets(secrets(repetitions=(4, 16)), evidence(canaries, 1.0), unit="record") is None
    assert thrown_for_secrets(secrets(probability=0.3), evidence(canaries, 1.0), unit="user") is None
    assert thrown_for_secrets((), replace(evidence(canaries, 1.0), canaries=None), unit="record") is None


def test_secrets_are_told_apart_by_what_they_gained_over_the_reference():
    canaries = secrets(n=600, repetitions=(1,))
    for reference, name, shown in ((True, "canary_ref_diff", True), (False, "canary_loss", False)):
        thrown = thrown_for_secrets(canaries, evidence(canaries, 1.0, reference=reference), unit="record")
        assert thrown is not None
        assert thrown.scored.name == name
        bounds = epsilon_bounds([thrown], delta=1e-5, confidence=0.95)
        assert (bounds[0].estimate.value > 2) == shown


def test_everything_with_coins_shares_the_error():
    canaries = secrets()
    levels = [Units(level=level_of("record"), ids=()), Units(level=level_of("user", attack="loss:mean"), ids=())]
    thrown = all_thrown(levels, canaries, evidence(canaries, 1.0), secret_unit="user", confounded=True)
    assert [(one.units, one.unit, one.confounded) for one in thrown] == [
        ("users", "user", True),
        ("planted secrets", "user", False),
    ]
    bounds = epsilon_bounds(thrown, delta=1e-6, confidence=0.94)
    assert [bound.estimate.confidence for bound in bounds] == pytest.approx([1 - 0.06 / 6] * 6)
    findings = [epsilon_finding(bound) for bound in bounds]
    assert {finding.severity for finding in findings[:3]} == {Severity.NONE}
    assert findings[3].severity is not Severity.NONE
    assert "planted secrets; no assumption" in findings[3].statement


def test_bounds_miss_the_truth_no_more_often_than_they_say():
    """Gaussian scores of μ = 1 satisfy (ε, δ)-DP with ε = gdp_epsilon(1, δ). 200 audits of two kinds of units at 95 %
    together: more than 19 misses have p < 0.01 (binomial)."""
    truth, missed = gdp_epsilon(1.0, 1e-3), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        thrown = []
        for unit in ("record", "user"):
            member = rng.random(300) < 0.5
            scored = Scored(name="x", score=rng.normal(1.0 * member), threat=THREAT)
            thrown.append(Thrown(units=unit, level=unit, unit=unit, member=member, scored=scored, confounded=False))
        missed += any(bound.estimate.lo > truth for bound in epsilon_bounds(thrown, delta=1e-3, confidence=0.95))
    assert missed <= 19
