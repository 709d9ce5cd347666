# SPDX-License-Identifier: Apache-2.0
"""Halves keep users whole and both sides in balance; a mean of halves covers whatever the halves share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.stats.cross_fitting import confidence_of_each, halves, mean_of
from reticent.stats.roc import auc


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(0, 5))
def test_users_stay_whole_and_every_kind_is_halved(units, seed):
    member = np.array([one for one, _ in units], dtype=bool)
    user = np.array([who for _, who in units], dtype=int)
    second = halves(member, user, seed=seed)
    kinds = {}
    for who in np.unique(user):
        side = second[user == who]
        assert side.all() or not side.any()
        kinds.setdefault(frozenset(member[user == who].tolist()), []).append(bool(side[0]))
    for sides in kinds.values():
        assert abs(2 * sum(sides) - len(sides)) <= 1


def test_without_users_both_sides_are_halved():
    member = np.arange(31) < 11
    second = halves(member, seed=3)
    assert second[member].sum() == 5
    assert second[~member].sum() == 10
    np.testing.assert_array_equal(second, halves(member, seed=3))
    assert (second != halves(member, seed=4)).any()


def test_the_mean_lies_between_the_mean_ends():
    parts = [Estimate(value=v, lo=v - w, hi=v + 2 * w, n=n, method="m") for v, w, n in [(0.5, 0.1, 10), (0.7, 0.3, 20)]]
    found = mean_of(parts, confidence=0.95)
    assert (found.value, found.lo, found.hi) == pytest.approx((0.6, 0.4, 1.0))
    assert found.n == 30
    assert found.confidence == 0.95
    with pytest.raises(BadInput, match="common mean"):
        mean_of([], confidence=0.95)


def test_cross_fitted_noise_is_covered_where_the_pooled_interval_is_too_narrow():
    """A direction fitted on either half of pure noise, judged on the other, 400 times at 90 %.

    Chance patterns that the halves share lift both: the pooled interval misses about twice as often as it may (more
    than 60 of 400 has probability < 0.001 at 10 %), the mean of halves does not (more than 57 has < 0.01).
    """
    pooled = meant = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        x, member = rng.normal(size=(80, 3)), np.arange(80) < 40
        second, score, parts = halves(member, seed=seed), np.empty(80), []
        for judged in (~second, second):
            fit = ~judged
            along = x[judged] @ (x[fit & member].mean(0) - x[fit & ~member].mean(0))
            score[judged] = (along - along.mean()) / along.std()
            parts.append(auc(score[judged & member], score[judged & ~member], confidence=confidence_of_each(0.9)))
        whole = auc(score[member], score[~member], confidence=0.9)
        mean = mean_of(parts, confidence=0.9)
        pooled += not whole.lo <= 0.5 <= whole.hi
        meant += not mean.lo <= 0.5 <= mean.hi
    assert pooled > 60
    assert meant <= 57
