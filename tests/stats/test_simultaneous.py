# SPDX-License-Identifier: Apache-2.0
"""Intervals that hold together: against DeLong's own, a bootstrap of users, and the truth of simulated scores."""

import numpy as np
import pytest

from reticent.core.errors import Underpowered
from reticent.stats.clustered import auc_clustered
from reticent.stats.roc import auc, tpr_at_fpr
from reticent.stats.simultaneous import (
    MemberSides,
    auc_number,
    design_effect,
    mean_of_halves,
    sides,
    together,
    tpr_number,
)


def drawn(n=100, gap=1.0, seed=0, attacks=1, likeness=0.95):
    rng = np.random.default_rng(seed)
    member = np.arange(2 * n) < n
    shared = rng.normal(size=2 * n)
    own = rng.normal(size=(attacks, 2 * n))
    return member, np.sqrt(likeness) * shared + np.sqrt(1 - likeness) * own + gap * member


def users_of(n, each, gap, seed, likeness=0.6):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n), each)
    member = owner < n // 2
    score = np.sqrt(likeness) * rng.normal(size=n)[owner] + np.sqrt(1 - likeness) * rng.normal(size=len(owner))
    return np.array([f"u{one}" for one in owner], dtype=object), member, score + gap * member


def test_one_auc_of_independent_units_is_delongs():
    member, scores = drawn()
    (found,) = together([auc_number(scores[0], sides(member, None))], confidence=0.95)
    expected = auc(scores[0][member], scores[0][~member])
    assert (found.value, found.lo, found.hi) == pytest.approx((expected.value, expected.lo, expected.hi), rel=1e-9)
    assert found.alone == pytest.approx((found.lo, found.hi))


def test_with_users_the_error_is_a_bootstraps():
    user, member, score = users_of(60, 10, 0.5, 0)
    number = auc_number(score, sides(member, user))
    (found,) = together([number], confidence=0.95)
    expected = auc_clustered(score[member], score[~member], user[member], user[~member], n_boot=4000)
    assert found.value == pytest.approx(expected.value)
    assert found.hi - found.lo == pytest.approx(expected.hi - expected.lo, rel=0.1)
    assert design_effect(number) > 3


def test_the_rate_is_the_empirical_one():
    member, scores = drawn(200)
    number = tpr_number(scores[0], sides(member, None), 0.1)
    assert number.value == tpr_at_fpr(scores[0][member], scores[0][~member], 0.1).value


def test_like_attacks_cost_less_than_bonferroni():
    member, scores = drawn(attacks=20)
    of = sides(member, None)
    found = together([auc_number(score, of) for score in scores], confidence=0.95)
    assert all(one.confidence == found[0].confidence for one in found)
    assert 0.95 < found[0].confidence < 1 - 0.05 / 20
    assert "max-T" in found[0].method
    assert all(one.lo < one.alone[0] < one.value < one.alone[1] < one.hi for one in found)


def test_all_hold_together_as_often_as_stated():
    """300 levels of 8 attacks, AUC and TPR: 95 % stated; below 270 holding (90 %) has a chance under 0.1 %."""
    holds = 0
    for seed in range(300):
        member, scores = drawn(n=100, gap=0.0, seed=seed, attacks=8, likeness=0.7)
        of = sides(member, None)
        numbers = [auc_number(score, of) for score in scores] + [tpr_number(score, of, 0.1) for score in scores]
        found = together(numbers, confidence=0.95, seed=seed)
        holds += all(one.lo <= truth <= one.hi for one, truth in zip(found, [0.5] * 8 + [0.1] * 8, strict=True))
    assert 270 <= holds <= 297


def test_users_of_one_side_are_covered():
    """200 null levels of 20 one-sided users: single intervals miss 0.5 in 5 %; over 20 misses has a chance of 0.2 %."""
    missed = 0
    for seed in range(200):
        user, member, score = users_of(20, 20, 0.0, seed)
        (found,) = together([auc_number(score, sides(member, user))], confidence=0.95)
        missed += not found.lo <= 0.5 <= found.hi
    assert missed <= 20


def test_halves_are_averaged_as_if_their_errors_were_one():
    member, scores = drawn(200)
    of = sides(member, None)
    half = np.arange(400) % 2 == 0
    parts, places = [], []
    for which in (half, ~half):
        owners, number = np.unique(of.owner[which], return_inverse=True)
        parts.append(auc_number(scores[0][which], MemberSides(member=member[which], owner=number)))
        places.append(owners)
    found = mean_of_halves(parts[0], parts[1], (places[0], places[1]), of.owners)
    assert found.value == pytest.approx((parts[0].value + parts[1].value) / 2)
    assert found.error == pytest.approx((parts[0].error + parts[1].error) / 2)
    assert found.n == 400


@pytest.mark.parametrize("gap", [0.0, 50.0])
def test_scores_without_a_spread_get_a_careful_interval(gap):
    member = np.arange(40) < 20
    flat = np.where(member, gap, 0.0)
    number = auc_number(flat, sides(member, None))
    (found,) = together([number], confidence=0.95)
    assert found.value == (0.5 if gap == 0 else 1.0)
    assert found.lo < found.value
    assert found.hi - found.lo > 0.1
    (rate,) = together([tpr_number(np.repeat(flat, 5), sides(np.repeat(member, 5), None), 0.1)], confidence=0.95)
    assert 0 <= rate.lo <= rate.value <= rate.hi <= 1
    assert rate.hi - rate.lo > 0.02


def test_users_who_all_have_one_rate_count_as_one_unit_each():
    """Of each user's two members one is caught, of their held-out one in ten passes: no spread between users to see."""
    user = np.array([f"u{one}" for one in np.repeat(np.arange(20), 22)], dtype=object)
    place = np.tile(np.arange(22), 20)
    member = place < 2
    score = np.where(member, np.where(place == 0, 9.0, -9.0), np.where(place >= 20, 1.0, 0.0))
    (rate,) = together([tpr_number(score, sides(member, user), 0.1)], confidence=0.95)
    assert rate.value == 0.5
    assert 0.2 < rate.lo < 0.35
    assert 0.65 < rate.hi <= 1


def test_infinite_scores_are_ranked():
    member, scores = drawn(60)
    scores[0][:5] = np.inf
    scores[0][-5:] = -np.inf
    found = together([auc_number(scores[0], sides(member, None))], confidence=0.95)[0]
    assert 0.5 < found.lo < found.hi < 1


def test_refuses_one_user_on_a_side_and_rates_that_rest_on_few():
    user = np.array(["a"] * 10 + ["b"] * 10, dtype=object)
    with pytest.raises(Underpowered, match="1 users"):
        auc_number(np.arange(20.0), sides(np.arange(20) < 10, user))
    with pytest.raises(Underpowered, match="FPR 0"):
        tpr_number(np.arange(200.0), sides(np.arange(200) < 100, None), 0.01)
