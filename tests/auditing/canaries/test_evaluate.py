# SPDX-License-Identifier: Apache-2.0
"""Tiers of planted secrets: the rank test decides whether one leaks, the bits say how much."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reticent.auditing.canaries.evaluate import exposures, findings, tier_tests
from reticent.core.finding import Finding, Severity
from reticent.data.canaries import Canary
from reticent.stats.hypothesis import holm


def secrets(planted: dict[int, int], *, left_out: int = 0, controls: int = 250) -> list[Canary]:
    """``planted``: repetitions → how many secrets; ``left_out`` more of each tier, whose coin left them out."""

    def some(n: int, repetitions: int, *, inside: bool) -> list[Canary]:
        about = {"kind": "x", "text": "", "space": 10**6, "probability": 0.5 if repetitions else 0.0}
        return [Canary(id=f"canary/x/{i}", repetitions=repetitions, planted=inside, **about) for i in range(n)]

    of_tiers = [
        canary
        for repetitions, n in planted.items()
        for canary in (*some(n, repetitions, inside=True), *some(left_out, repetitions, inside=False))
    ]
    return [*of_tiers, *some(controls, 0, inside=False)]


def losses(canaries: list[Canary], rng: np.random.Generator, gain: float = 0.0) -> np.ndarray:
    return rng.normal(5, 1, len(canaries)) - gain * np.array([canary.planted for canary in canaries])


def judged(canaries: list[Canary], nll: np.ndarray, level: float = 1 / 60) -> tuple[Finding, ...]:
    tests = tier_tests(canaries, nll)
    return findings(exposures(canaries, nll, confidence=1 - level), holm([test.p for test in tests]), level)


def test_each_planted_tier_is_compared_with_all_that_were_never_planted() -> None:
    canaries = secrets({1: 3, 4: 2}, left_out=5)
    tests = tier_tests(canaries, losses(canaries, np.random.default_rng(0)))
    assert [(test.tier, test.repetitions, test.n_planted, test.n_never) for test in tests] == [
        ("planted once", 1, 3, 260),
        ("planted 4 times", 4, 2, 260),
    ]
    assert all(0 < test.p <= 1 for test in tests)
    canaries = secrets({2: 1}, controls=99)
    (alone,) = tier_tests(canaries, np.arange(100.0))
    assert alone.p == pytest.approx(0.01)


def test_nothing_planted_has_no_test_and_no_finding() -> None:
    canaries = secrets({}, controls=20) + secrets({4: 0}, left_out=3, controls=0)
    nll = losses(canaries, np.random.default_rng(0))
    assert tier_tests(canaries, nll) == ()
    assert findings(exposures(canaries, nll, confidence=0.95), (), 0.05) == ()


def test_three_secrets_that_stand_out_are_a_leak_although_their_median_cannot_be_enclosed() -> None:
    canaries = secrets({16: 3})
    (finding,) = judged(canaries, losses(canaries, np.random.default_rng(0), gain=9.0))
    assert finding.severity is Severity.HIGH
    assert finding.notes[-1] == "severity by the median of these secrets only"
    assert finding.p_value == pytest.approx(1 / math.comb(253, 3))
    assert (finding.estimate.lo, finding.estimate.hi) == (0.0, math.inf)
    assert "cannot enclose" in finding.estimate.method
    assert "rank test" in finding.notes[1]


def test_few_secrets_that_stand_out_a_little_are_of_low_severity_and_none_without_the_test() -> None:
    canaries = secrets({16: 5})
    nll = np.concatenate([np.full(5, 4.0), np.linspace(3, 7, 250)])  # a quarter of the controls is likelier
    tiers = exposures(canaries, nll, confidence=0.95)
    assert findings(tiers, [0.01], 0.05)[0].severity is Severity.LOW
    assert findings(tiers, [0.2], 0.05)[0].severity is Severity.NONE
    assert "these secrets only" not in findings(tiers, [0.2], 0.05)[0].notes[-1]


def test_severity_rises_with_the_certain_bits_and_never_without_the_test() -> None:
    canaries = secrets({16: 40}, controls=1000)
    nll = losses(canaries, np.random.default_rng(0), gain=9.0)
    (finding,) = judged(canaries, nll)
    assert finding.severity is Severity.HIGH
    assert finding.estimate.lo > 5
    tiers = exposures(canaries, nll, confidence=0.95)
    assert findings(tiers, [0.2], 0.05)[0].severity is Severity.NONE
    assert findings(tiers, [0.05], 0.05)[0].severity is Severity.HIGH
    with pytest.raises(ValueError, match="zip"):
        findings(tiers, [0.2, 0.2], 0.05)


@pytest.mark.parametrize("per_tier", [1, 2, 10])
def test_tiers_of_which_nothing_was_learned_are_hardly_ever_called_a_leak(per_tier: int) -> None:
    """300 audits of three such tiers at 1 in 60 together: 14 or more come up for 1 choice of seeds in 1,000. Judged by
    the median of the secrets, 60 % of them leaked."""
    rng = np.random.default_rng(per_tier)
    canaries = secrets({1: per_tier, 4: per_tier, 16: per_tier}, left_out=per_tier, controls=60)
    alarms = 0
    for _ in range(300):
        nll = losses(canaries, rng)
        alarms += bool((holm([test.p for test in tier_tests(canaries, nll)]) <= 1 / 60).any())
    assert alarms <= 13


def test_ten_secrets_that_were_learned_a_little_are_found() -> None:
    """One standard deviation lower, at level .0042: about 64 in 100, five times as many as the median's interval."""
    rng = np.random.default_rng(5)
    canaries = secrets({4: 10})
    p = [tier_tests(canaries, losses(canaries, rng, gain=1.0))[0].p for _ in range(120)]
    assert 0.5 < np.mean(np.array(p) <= 0.0042) < 0.8
