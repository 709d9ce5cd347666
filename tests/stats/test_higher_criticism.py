# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from reticent.stats.higher_criticism import higher_criticism, paired_global_p, pooled_global_p, smallest_share


def test_the_statistic_as_one_would_compute_it():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 50):
        p = rng.random(n).round(2)
        ordered = sorted(max(value, 1 / n) for value in p)
        slow = 0.0
        for place, value in enumerate(ordered, start=1):
            if (place <= n / 4 or place == 1) and value < 1:
                slow = max(slow, math.sqrt(n) * (place / n - value) / math.sqrt(value * (1 - value)))
        assert higher_criticism(p) == pytest.approx(slow)


@pytest.mark.parametrize("paired", [True, False])
def test_its_null_knows_that_p_values_share_their_nulls(paired):
    """Against the limit for independent p-values, shared nulls would alarm far too often."""
    rng = np.random.default_rng(3)
    alarms = 0
    for seed in range(150):
        shared = rng.normal(size=60)
        x, y = (shared + rng.normal(size=60) for _ in range(2)) if paired else rng.normal(size=(2, 60))
        test = paired_global_p if paired else pooled_global_p
        alarms += test(x, y, draws=19, seed=seed) <= 0.05
    assert alarms <= 15  # Binomial(150, 0.05): more has p < 0.005


def test_users_are_swapped_as_a_whole():
    rng = np.random.default_rng(4)
    alarms = 0
    owner = np.repeat(np.arange(12), 8)
    for seed in range(100):
        x, y = (np.repeat(rng.normal(size=12), 8) + 0.1 * rng.normal(size=96) for _ in range(2))
        alarms += paired_global_p(x, y, cluster=owner, draws=19, seed=seed) <= 0.05
    assert alarms <= 11  # Binomial(100, 0.05)


def test_users_of_both_groups_are_drawn_as_a_whole():
    rng = np.random.default_rng(6)
    owner, alarms, one_by_one = np.repeat(np.arange(12), 8), 0, 0
    for seed in range(100):
        x, y = (np.repeat(rng.normal(size=12), 8) + 0.1 * rng.normal(size=96) for _ in range(2))
        alarms += pooled_global_p(x, y, cluster=owner, null_cluster=owner, draws=19, seed=seed) <= 0.05
        one_by_one += pooled_global_p(x, y, draws=19, seed=seed) <= 0.05
    assert alarms <= 11  # Binomial(100, 0.05): more has p < 0.005
    assert one_by_one > 25


@pytest.mark.parametrize("test", [paired_global_p, pooled_global_p])
def test_a_few_outliers_are_seen(test):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 400))
    x[:12] += 5
    assert test(x, y, draws=99) == 0.01
    assert test(np.zeros(40), np.zeros(40), draws=19) == 1


def test_the_smallest_share_falls_with_the_nulls():
    many, few = (smallest_share(200, 1 / nulls, level=0.05, draws=99) for nulls in (2000, 20))
    assert 0 < many < few <= 1
