# SPDX-License-Identifier: Apache-2.0
"""Many tests at once: no more false alarms than stated, and no group spends another's error."""

from itertools import combinations

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.stats.max_t import HypothesisGroup, closed, max_t


def null(rng, statistics=8, draws=200, likeness=0.8):
    shared = rng.normal(size=(1, 1 + draws))
    return np.sqrt(likeness) * shared + np.sqrt(1 - likeness) * rng.normal(size=(statistics, 1 + draws))


def slow(statistics):
    """Adjusted p-values by the definition: of each set of hypotheses the largest statistic."""
    z = (statistics - statistics.mean(axis=1, keepdims=True)) / statistics.std(axis=1, keepdims=True)
    count = len(z)
    worst = np.zeros(count)
    for size in range(1, count + 1):
        for chosen in map(list, combinations(range(count), size)):
            largest = z[chosen].max(axis=0)
            p = np.mean(largest >= largest[0] - 1e-9)
            worst[chosen] = np.maximum(worst[chosen], p)
    return worst


def test_steps_down_to_what_all_intersections_give():
    rng = np.random.default_rng(0)
    for shift in (0.0, 1.0, 3.0):
        statistics = null(rng, statistics=6, draws=4000)  # near Gaussian, so that no skewness is taken out
        statistics[:3, 0] += shift
        found = max_t(statistics).adjusted
        np.testing.assert_allclose(found, slow(statistics), atol=0.004)


def test_false_alarms_are_what_is_stated_for_like_and_skewed_statistics():
    """2,000 families at 5 %: above 128 (6.4 %) has a chance of 0.2 % where the error is kept."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(2000):
        statistics = null(rng)
        statistics[0] = np.exp(2 * statistics[0])  # a long tail
        statistics[1] = np.round(statistics[1])  # ties
        statistics[2] = 7.0  # never moves
        alarms += bool(max_t(statistics).adjusted.min() <= 0.05)
    assert 50 <= alarms <= 128


def test_a_long_tail_does_not_hide_the_others():
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        statistics = null(rng, statistics=2, draws=500, likeness=0.0)
        statistics[0] = rng.poisson(0.3, size=501)
        statistics[1, 0] = 2.6
        found += bool(max_t(statistics).adjusted[1] <= 0.05)
    assert found > 150


def test_each_p_value_counts_the_real_labels_in():
    statistics = np.vstack([np.arange(5.0)[::-1], np.zeros(5)])
    found = max_t(statistics)
    assert found.p.tolist() == [0.2, 1.0]
    assert found.adjusted[1] == 1.0


def test_refuses_what_is_no_table():
    with pytest.raises(BadInput, match="1 \\+ draws"):
        max_t(np.zeros((3, 1)))
    with pytest.raises(BadInput):
        max_t(np.array([[0.0, np.nan]]))


def test_groups_share_the_error_by_weight_and_pass_it_on():
    primary, rest = closed([HypothesisGroup(0.8, np.array([0.03])), HypothesisGroup(0.2, np.array([0.03, 0.9]))])
    assert primary[0] == pytest.approx(0.0375)  # 0.03 / 0.8
    assert rest[0] == pytest.approx(0.0375)  # the primary one is rejected at 0.0375: its error is free then
    alone = closed([HypothesisGroup(0.8, np.array([0.9])), HypothesisGroup(0.2, np.array([0.009]))])
    assert alone[1][0] == pytest.approx(0.045)
    assert alone[0][0] == pytest.approx(0.9)


def test_one_group_needs_no_correction():
    (found,) = closed([HypothesisGroup(0.3, np.array([0.01, 0.5]))])
    assert found.tolist() == [0.01, 0.5]


def test_closed_keeps_the_error_over_three_groups():
    """Uniform p-values, all true: rejections at 5 % at most. 2,000 times: above 128 has a chance of 0.2 %."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(2000):
        groups = [HypothesisGroup(w, np.array([rng.random()])) for w in (0.5, 0.3, 0.2)]
        alarms += any(one[0] <= 0.05 for one in closed(groups))
    assert 60 <= alarms <= 128
