# SPDX-License-Identifier: Apache-2.0
"""Means and differences: closed forms, a jackknife twin, and coverage where users share records."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.means import difference_of_means, ratio_of_sums


def test_with_equal_counts_a_ratio_is_a_mean_with_students_interval() -> None:
    x = np.random.default_rng(0).normal(3, 1, 40)
    found = ratio_of_sums(10 * x, np.full(40, 10), unit="nats a token", higher_is_worse=False)
    lo, hi = stats.t.interval(0.95, 39, loc=x.mean(), scale=stats.sem(x))
    assert (found.value, found.lo, found.hi) == pytest.approx((x.mean(), lo, hi))
    assert not found.higher_is_worse
    assert found.n == 40


def test_ratio_with_users_agrees_with_leaving_each_user_out() -> None:
    rng = np.random.default_rng(1)
    user = rng.integers(0, 60, 400)
    count = rng.integers(5, 50, 400)
    total = count * (2 + 0.3 * rng.normal(size=60)[user])
    found = ratio_of_sums(total, count, user)
    left = np.array([total[user != one].sum() / count[user != one].sum() for one in range(60)])
    jackknife = np.sqrt(59 / 60 * ((left - left.mean()) ** 2).sum())
    assert (found.hi - found.value) / stats.t.ppf(0.975, 59) == pytest.approx(jackknife, rel=0.05)


def test_difference_of_independent_groups() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(1, 1, 100), rng.normal(0, 2, 150)
    found = difference_of_means(x, y)
    error = np.sqrt(x.var() / 100 + y.var() / 150) * np.sqrt(250 / 249)
    assert found.value == pytest.approx(x.mean() - y.mean())
    assert found.hi - found.value == pytest.approx(stats.t.ppf(0.975, 99) * error)


def test_what_users_have_in_common_cancels_where_they_are_on_both_sides() -> None:
    rng = np.random.default_rng(3)
    effect = rng.normal(0, 5, 50)
    user = np.arange(50)
    x, y = effect + rng.normal(0, 0.1, 50), effect + rng.normal(0, 0.1, 50)
    shared = difference_of_means(x, y, user, user)
    apart = difference_of_means(x, y)
    assert shared.hi - shared.lo < 0.1 * (apart.hi - apart.lo)


def test_intervals_cover_with_users() -> None:
    """Nominal 95 %; 400 data sets of 30 users. Below 92 % has probability < 1 % at the nominal rate."""
    rng = np.random.default_rng(4)
    hit = 0
    for _ in range(400):
        mean = rng.normal(0, 1, 30)
        x_user, y_user = rng.integers(0, 30, 80), rng.integers(0, 30, 60)
        x, y = mean[x_user] + rng.normal(size=80) + 0.5, mean[y_user] + rng.normal(size=60)
        found = difference_of_means(x, y, x_user, y_user)
        hit += found.lo <= 0.5 <= found.hi
    assert hit >= 0.92 * 400


def test_no_variance_is_no_certainty_where_the_range_is_known() -> None:
    found = difference_of_means(np.zeros(20), np.zeros(30), within=1.0)
    assert found.lo < -0.3
    assert found.hi > 0.3
    assert "Hoeffding" in found.method


def test_refusals() -> None:
    with pytest.raises(Underpowered, match="of 1 user"):
        ratio_of_sums([1.0, 2.0], [1, 1], ["a", "a"])
    with pytest.raises(Underpowered, match="the other group"):
        difference_of_means([1.0, 2.0], [1.0, 3.0], ["a", "b"], ["a", "a"])
    with pytest.raises(BadInput, match="same length"):
        ratio_of_sums([1.0, 2.0], [1.0])
