# SPDX-License-Identifier: Apache-2.0
"""Kolmogorov and Smirnov's statistic by its definition, and how often its interval holds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm

from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput, Underpowered
from reticent.stats.two_sample import DistributionGap, distribution_gap


def test_golden_values():
    gap = distribution_gap([0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.5, 0.7, 0.9, 1.1])
    assert gap.statistic.value == pytest.approx(0.6)
    assert gap.p_value == pytest.approx(0.357143, abs=1e-6)
    assert (gap.x, gap.y, gap.paired) == (5, 5, False)
    assert decode(DistributionGap, json.loads(json.dumps(encode(gap)))) == gap


def test_the_statistic_is_the_largest_gap():
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(size=40), 1), np.round(rng.normal(0.3, 1, 55), 1)
    slow = max(abs((x <= value).mean() - (y <= value).mean()) for value in np.concatenate([x, y]))
    assert distribution_gap(x, y, n_boot=10).statistic.value == pytest.approx(slow)


def test_it_is_the_same_of_ratios_turned_over():
    rng = np.random.default_rng(1)
    x, y = rng.random(30) + 0.1, rng.random(25) + 0.3
    first, other = distribution_gap(x, y), distribution_gap(1 / x, 1 / y)
    assert (first.statistic.value, first.p_value) == pytest.approx((other.statistic.value, other.p_value))


def test_a_sample_against_itself():
    x = np.random.default_rng(2).normal(size=40)
    rows = np.arange(40)
    same = distribution_gap(x, x, rows, rows)
    assert (same.p_value, same.paired, same.statistic.value, same.statistic.hi) == (1.0, True, 0.0, 0.0)
    assert distribution_gap(x, x).statistic.hi > 0.25


@pytest.mark.parametrize(("shift", "users"), [(0.0, False), (0.8, False), (0.0, True), (0.8, True)])
def test_the_interval_holds_at_least_as_often_as_asked(shift, users):
    rng = np.random.default_rng(3)
    truth, missed = 2 * norm.cdf(shift / 2) - 1, 0
    for _ in range(100):
        if users:
            owner = np.repeat(np.arange(24), 5)
            score = np.sqrt(0.5) * rng.normal(size=24)[owner] + np.sqrt(0.5) * rng.normal(size=120)
            x, y, of = score[:60] + shift, score[60:], (owner[:60], owner[60:])
        else:
            x, y, of = rng.normal(shift, 1, 40), rng.normal(0, 1, 60), (None, None)
        statistic = distribution_gap(x, y, *of, n_boot=200).statistic
        missed += not statistic.lo <= truth <= statistic.hi
    assert missed <= 12


def test_rows_of_users_taken_as_independent_give_a_narrower_interval():
    rng = np.random.default_rng(4)
    owner = np.repeat(np.arange(20), 10)
    score = rng.normal(size=20)[owner] + 0.3 * rng.normal(size=200)
    by_user = distribution_gap(score[:100], score[100:], owner[:100], owner[100:]).statistic
    by_row = distribution_gap(score[:100], score[100:]).statistic
    assert by_user.hi - by_user.lo > 1.5 * (by_row.hi - by_row.lo)


def test_the_same_questions_of_two_models_are_paired():
    """Resampled together, what both answers have in common falls away."""
    rng = np.random.default_rng(5)
    common = rng.normal(size=100)
    x, y = common + 0.1 * rng.normal(size=100), common + 0.1 * rng.normal(size=100)
    rows = np.arange(100)
    together, apart = distribution_gap(x, y, rows, rows), distribution_gap(x, y)
    assert together.paired
    assert together.statistic.hi < apart.statistic.hi / 1.5


def test_infinite_values_are_ranks():
    gap = distribution_gap([np.inf, 1.0, 2.0], [-np.inf, 0.0, 0.5])
    assert gap.statistic.value == 1.0


def test_refusals():
    for x, y, of in (
        ([1.0, np.nan], [1.0, 2.0], ()),
        ([], [1.0], ()),
        ([1.0, 2.0], [1.0, 2.0], (["a"], None)),
    ):
        with pytest.raises(BadInput):
            distribution_gap(x, y, *of)
    with pytest.raises(Underpowered):
        distribution_gap([1.0], [1.0, 2.0])
    with pytest.raises(Underpowered):
        distribution_gap([1.0, 3.0], [1.0, 2.0], ["a", "a"], ["b", "c"])
