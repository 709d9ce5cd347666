# SPDX-License-Identifier: Apache-2.0
"""Units with fair coins of their own, the bound of each kind that counts, and the share of bounds that are too high."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reticent.auditing.canaries.collect import CanaryEvidence
from reticent.auditing.guarantee.epsilon_bounds import (
    CONDITIONAL,
    EpsilonBound,
    RandomizedUnits,
    epsilon_bounds,
    epsilon_finding,
    randomized_level,
    randomized_secrets,
    randomized_units,
)
from reticent.auditing.membership.level import AttackScores, Level
from reticent.auditing.membership.make_levels import LevelUnits
from reticent.auditing.membership.primary import PRIMARY
from reticent.core.finding import Severity, ThreatModel
from reticent.core.membership import Membership
from reticent.core.table import TokenTable
from reticent.data.canaries import Canary
from reticent.stats.epsilon import gdp_epsilon

THREAT = ThreatModel(access="logprob")


def bounds_of(group: RandomizedUnits, **about: Any) -> dict[str, EpsilonBound]:
    """By what they assume, in short."""
    bounds = epsilon_bounds([group], delta=1e-5, confidence=0.95, **about).found
    names = ("one_run", "gdp_one_run", "clopper_pearson", "gdp_roc", "gdp_auc", "gdp_pairs")
    return dict(zip(names, bounds, strict=True))


def level_of(name: str = "record", shift: float = 3.0, n: int = 400, attack: str = "ref_ratio") -> Level:
    rng = np.random.default_rng(0)
    member = rng.random(n) < 0.5
    scored = AttackScores(name=attack, score=rng.normal(shift * member), threat=THREAT)
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


def evidence(canaries: list[Canary], gain: float, *, reference: bool = True) -> CanaryEvidence:
    """Secrets of very different difficulty; planted ones lose ``gain`` nats."""
    rng = np.random.default_rng(2)
    hard = rng.normal(5, 3, len(canaries))
    planted = np.array([canary.planted for canary in canaries])
    return CanaryEvidence(
        target=table(hard - gain * planted + rng.normal(0, 0.1, len(canaries))),
        reference=table(hard) if reference else None,
    )


def by_user() -> Membership:
    """Coins thrown for users; of no records."""
    none = np.array([], dtype=object)
    return Membership(
        record_id=none, member=none.astype(bool), user=none, user_member=none.astype(bool), role=none, unit="user",
        probability=0.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("level", "membership", "bounded"),
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
def test_only_what_had_fair_coins_of_its_own_is_bounded(level: Level, membership: dict[str, Any], bounded: str | None):
    group = randomized_level(level, **membership, confounded=False)
    assert (group.unit if group else None) == bounded
    if group is not None:
        for bound in bounds_of(group).values():
            assert bound.estimate.value > 0
            assert bound.estimate.unit == f"nats (δ = 1e-05, one {bounded} added or removed)"
            assert epsilon_finding(bound).level == level.name


def test_the_statistic_is_the_first_in_order_that_ran() -> None:
    level = level_of("record", attack="loss")
    more = [replace(level.attacks[0], name=name) for name in ("zlib", "ref_ratio", "ez_mia")]
    for attacks, chosen in (
        ([*level.attacks, *more], "ez_mia"),
        ([more[1], *level.attacks], "ref_ratio"),
        ([more[0], *level.attacks], "loss"),
    ):
        group = randomized_level(replace(level, attacks=attacks), unit="record", probability=0.5, confounded=False)
        assert group is not None
        assert group.scored.name == chosen
    assert [names[0] for names in PRIMARY.values()] == ["rmia_shadow", "ref_ratio:mean", "user_inference"]


def test_the_primary_bound_rests_on_coins_alone_and_only_it_counts() -> None:
    group = randomized_level(level_of(), unit="record", probability=0.5, confounded=False)
    assert group is not None
    for gaussian, primary in ((None, "one_run"), ("user", "one_run"), ("record", "gdp_one_run")):
        bounds = bounds_of(group, joint=0.9, gaussian=gaussian)
        assert [name for name, bound in bounds.items() if bound.primary] == [primary]
        for name, bound in bounds.items():
            finding = epsilon_finding(bound)
            counts = name == primary
            assert finding.metric == ("epsilon_lower" if counts else CONDITIONAL)
            assert (finding.severity is not Severity.NONE) == counts
            assert (bound.estimate.joint, bound.estimate.confidence) == ((0.9, 0.95) if counts else (None, 0.9))
            assert bound.assumption in finding.statement
            assert any("no part in the verdict" in note for note in finding.notes) != counts
    assert bounds["gdp_auc"].estimate.value > bounds["gdp_pairs"].estimate.value > bounds["one_run"].estimate.value


@pytest.mark.parametrize(("inside", "outside"), [(30, 300), (300, 30)])
def test_sides_that_no_fair_coin_gives_cost_the_one_run_bounds_only(inside: int, outside: int) -> None:
    level = level_of(n=inside + outside)
    level = replace(level, member=np.arange(inside + outside) < inside)
    group = randomized_level(level, unit="record", probability=0.5, confounded=False)
    assert group is not None
    bounds, refused = epsilon_bounds([group], delta=1e-5, confidence=0.95)
    assert len(bounds) == 4
    assert not any(bound.primary for bound in bounds)
    (reason,) = refused
    assert reason.startswith(f"ε in one run, from records: {inside} members and {outside} held-out units: the one-run")


def test_a_side_of_one_unit_costs_the_bounds_by_auc_only() -> None:
    level = level_of(n=12)
    level = replace(level, member=np.arange(12) < 11)
    group = randomized_level(level, unit="record", probability=0.5, confounded=False)
    assert group is not None
    bounds, refused = epsilon_bounds([group], delta=1e-5, confidence=0.95)
    assert len(bounds) == 4
    assert len(refused) == 2
    assert all("by the AUC" in reason for reason in refused)


def test_a_secret_is_a_record_if_planted_once_and_a_user_with_all_its_copies():
    canaries = secrets()
    once = randomized_secrets(canaries, evidence(canaries, 1.0), unit="record")
    users = randomized_secrets(canaries, evidence(canaries, 1.0), unit="user")
    assert once is not None
    assert users is not None
    assert (once.unit, len(once.member)) == ("record", 40)
    assert once.member.tolist() == [canary.planted for canary in canaries[:120:3]]
    assert (users.unit, len(users.member)) == ("user", 120)  # controls had no coin
    assert randomized_secrets(secrets(repetitions=(4, 16)), evidence(canaries, 1.0), unit="record") is None
    assert randomized_secrets(secrets(probability=0.3), evidence(canaries, 1.0), unit="user") is None
    assert randomized_secrets((), None, unit="record") is None


def test_secrets_are_told_apart_by_what_they_gained_over_the_reference():
    canaries = secrets(n=600, repetitions=(1,))
    for reference, name, shown in ((True, "canary_ref_diff", True), (False, "canary_loss", False)):
        group = randomized_secrets(canaries, evidence(canaries, 1.0, reference=reference), unit="record")
        assert group is not None
        assert group.scored.name == name
        assert (bounds_of(group)["one_run"].estimate.value > 2) == shown


def test_everything_with_coins_shares_the_error():
    canaries = secrets()
    levels = [
        LevelUnits(level=level_of("record"), ids=()),
        LevelUnits(level=level_of("user", attack="loss:mean"), ids=()),
    ]
    randomized = randomized_units(
        levels, by_user(), canaries, evidence(canaries, 1.0), secret_unit="user", confounded=True
    )
    assert [(group.units, group.unit, group.confounded) for group in randomized] == [
        ("users", "user", True),
        ("planted secrets", "user", False),
    ]
    bounds = epsilon_bounds(randomized, delta=1e-6, confidence=0.94).found
    primary = [bound for bound in bounds if bound.primary]
    assert [bound.estimate.confidence for bound in primary] == pytest.approx([1 - 0.06 / 2] * 2)
    assert [bound.estimate.confidence for bound in bounds if not bound.primary] == [0.95] * 10
    findings = [epsilon_finding(bound) for bound in primary]
    assert findings[0].severity is Severity.NONE
    assert findings[1].severity is not Severity.NONE
    assert "planted secrets; no assumption" in findings[1].statement


def thrown_units(unit: str, member: np.ndarray, score: np.ndarray) -> RandomizedUnits:
    scored = AttackScores(name="x", score=score, threat=THREAT)
    return RandomizedUnits(units=unit, level=unit, unit=unit, member=member, scored=scored, confounded=False)


@pytest.mark.parametrize("gaussian", [None, "record"])
def test_primary_bounds_miss_the_truth_together_no_more_often_than_they_say(gaussian: str | None) -> None:
    """Gaussian scores of μ = 1 satisfy (ε, δ)-DP with ε = gdp_epsilon(1, δ). 120 audits of two kinds of units at 95 %
    together: more than 12 misses have p < 0.01 (binomial)."""
    truth, missed = gdp_epsilon(1.0, 1e-3), 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        randomized = []
        for unit in ("record", "user"):
            member = rng.random(300) < 0.5
            randomized.append(thrown_units(unit, member, rng.normal(1.0 * member)))
        bounds = epsilon_bounds(randomized, delta=1e-3, confidence=0.95, gaussian=gaussian).found
        missed += any(bound.estimate.lo > truth for bound in bounds if bound.primary)
    assert missed <= 12


def shared_luck(rng: np.random.Generator, mu: float, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Coins and answers of an engine that is exactly μ-Gaussian private for every unit, though all share their luck.

    It draws *one* pair of Gaussian privacy losses ±l for all, and then tells each coin with odds e^l, each by itself:
    what one unit learns is distributed as for its own Gaussian noise.
    """
    member = rng.random(units) < 0.5
    shown = rng.normal(mu * (rng.random() < 0.5))
    loss = abs(mu * (shown - mu / 2))
    right = rng.random(units) < 1 / (1 + np.exp(-loss))
    return member, np.where(right, member, ~member) + 1e-9 * rng.random(units)


def test_where_all_units_share_their_luck_only_bounds_from_coins_hold() -> None:
    """Why no bound that takes units as independent is primary: 150 audits of an engine that keeps μ = 1 exactly."""
    too_high = dict.fromkeys(("one_run", "gdp_one_run", "gdp_roc", "gdp_auc"), 0)
    for seed in range(150):
        member, score = shared_luck(np.random.default_rng(seed), 1.0, 400)
        bounds = bounds_of(thrown_units("record", member, score))
        for name in too_high:
            too_high[name] += bounds[name].estimate.lo > gdp_epsilon(1.0, 1e-5)
    assert too_high["one_run"] <= 15  # 5 % and three standard errors
    assert too_high["gdp_one_run"] <= 15
    assert too_high["gdp_auc"] > 15
