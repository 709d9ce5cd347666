# SPDX-License-Identifier: Apache-2.0
"""Risk lists against counting by loops, chance, perfect foresight, and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from reticent.core.errors import Underpowered
from reticent.stats.intervals import clopper_pearson
from reticent.stats.risk import _share, _weighted_fpr, effective_trials, places, quality, rank_average, top


def records(rng, n=600, *, alike=0.0, users=None, link=0.7):
    """Risk and outcome with correlation ``link``; a share ``alike`` of their variance is the user's."""
    user = np.arange(n) if users is None else rng.integers(0, users, n)
    both = rng.multivariate_normal([0, 0], [[1, link], [link, 1]], size=2 * n)
    mixed = math.sqrt(alike) * both[n:][user] + math.sqrt(1 - alike) * both[:n]
    return mixed[:, 0], mixed[:, 1], user


def test_rates_are_counts():
    risk, outcome, _ = records(np.random.default_rng(0))
    found = quality(risk, outcome)
    memorized = set(np.argsort(-outcome)[:60].tolist())
    flagged = set(np.argsort(-risk)[:60].tolist())
    assert found.tpr.value == len(memorized & flagged) / 60
    assert found.fpr.value == len(flagged - memorized) / 540
    assert (found.memorized, found.others) == (60, 540)
    kept = sorted((risk[i] for i in memorized), reverse=True)[: math.ceil(0.75 * 60)]
    assert found.fpr_at_recall.value == pytest.approx(
        sum(risk[i] >= kept[-1] for i in range(600) if i not in memorized) / 540
    )
    wins = np.mean([risk[i] > risk[j] for i in memorized for j in range(600) if j not in memorized])
    assert found.auc.value == pytest.approx(wins)


def test_perfect_foresight_and_none():
    outcome = np.arange(500.0)
    perfect, useless = quality(outcome, outcome), quality(-outcome, outcome)
    assert (perfect.tpr.value, perfect.fpr.value, perfect.fpr_at_recall.value, perfect.auc.value) == (1, 0, 0, 1)
    assert (useless.tpr.value, useless.auc.value, useless.fpr_at_recall.value) == (0, 0, 1)
    assert perfect.tpr.lo > 0.9


@given(st.integers(0, 10_000), st.floats(0.3, 0.95))
def test_weighted_false_alarms_are_those_of_repeated_records(seed, recall):
    """Twin: repeat each record as often as it counts."""
    rng = np.random.default_rng(seed)
    risk, weight = np.round(rng.normal(size=40), 1), rng.integers(0, 4, 40)
    memorized = np.arange(40) < 12
    own = sorted(np.repeat(risk, weight)[np.repeat(memorized, weight)])
    cut = own[math.floor((1 - recall) * len(own) + 1e-9)]
    others = np.repeat(risk, weight)[np.repeat(~memorized, weight)]
    assert _weighted_fpr(risk, memorized, weight, recall) == pytest.approx((others >= cut).mean())


def test_intervals_hold():
    """Clopper-Pearson over the records drawn: at most the 99.9 % point of a binomial at 5 % misses, of 300 lists.

    The truth is the rate among all of a large population, flagged and memorized by the population's own top 10 %.
    """
    rng, runs, missed = np.random.default_rng(1), 300, 0
    large_risk, large_outcome, _ = records(rng, 400_000)
    memorized = top(large_outcome)
    truth = top(large_risk)[~memorized].mean()
    for _ in range(runs):
        risk, outcome, _ = records(rng)
        fpr = quality(risk, outcome).fpr
        missed += not fpr.lo <= truth <= fpr.hi
    assert missed <= binom.ppf(0.999, runs, 0.05)


def test_clustered_shares_cover_where_users_are_alike():
    """Korn-Graubard against naive Clopper-Pearson, design effect about 5; the same error rate."""
    rng, runs, missed, naive = np.random.default_rng(2), 300, 0, 0
    for _ in range(runs):
        user = np.repeat(np.arange(30), 20)
        hit = rng.random(600) < rng.beta(1, 3, 30)[user]
        estimate = _share(hit, np.ones(600, dtype=bool), user, 0.95)
        missed += not estimate.lo <= 0.25 <= estimate.hi
        lo, hi = clopper_pearson(hit.sum(), 600)
        naive += not lo <= 0.25 <= hi
    assert missed <= binom.ppf(0.999, runs, 0.05)
    assert naive > 0.2 * runs


def test_effective_trials():
    rng = np.random.default_rng(3)
    hit = rng.random(400) < 0.3
    assert effective_trials(hit, np.arange(400)) == pytest.approx(400, rel=0.01)
    whole = np.repeat(rng.random(20) < 0.3, 20)
    assert effective_trials(whole, np.repeat(np.arange(20), 20)) < 20  # users who agree with themselves count once
    assert effective_trials(np.zeros(400), np.repeat(np.arange(20), 20)) == 20


def test_users_widen_and_all_is_there():
    risk, outcome, user = records(np.random.default_rng(4), alike=0.8, users=30)
    alone, grouped = quality(risk, outcome), quality(risk, outcome, cluster=user, draws=200)
    for name in ("tpr", "fpr", "fpr_at_recall", "auc"):
        one, other = getattr(alone, name), getattr(grouped, name)
        assert one.value == pytest.approx(other.value)
        assert other.lo <= other.value <= other.hi
    assert grouped.fpr.hi - grouped.fpr.lo > alone.fpr.hi - alone.fpr.lo
    assert "30 users" in grouped.fpr_at_recall.method


def test_few_memorized_are_refused():
    risk, outcome, _ = records(np.random.default_rng(5), 200)
    found = quality(risk, outcome)
    assert found.fpr_at_recall is None
    assert found.refused == ("FPR at 75% recall: 20 memorized records, and it takes 40",)
    with pytest.raises(Underpowered, match="only 9"):
        quality(risk[:90], outcome[:90])


def test_averaged_ranks_beat_each_of_two_noisy_scores():
    rng = np.random.default_rng(6)
    outcome = rng.normal(size=2000)
    scores = [outcome + rng.normal(size=2000) for _ in range(2)]
    both = quality(rank_average(scores[0], np.exp(scores[1])), outcome).auc.value
    assert both > max(quality(one, outcome).auc.value for one in scores)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_places_are_a_permutation_with_the_highest_first(values):
    place = places(values)
    assert sorted(place.tolist()) == list(range(1, len(values) + 1))
    assert values[int(np.argmin(place))] == max(values)
    assert top(values, 0.1).sum() == math.ceil(len(values) / 10)
