# SPDX-License-Identifier: Apache-2.0
"""Coins of shadow models: balanced, nested, and without a look at whose coin came up in the audited model."""

from dataclasses import replace

import numpy as np
import pytest

from reticent.core.record import Record
from reticent.data.canaries import plant_users
from reticent.data.shadow_coins import shadow_coins
from reticent.data.split import split

TEXTS = [Record(id=f"r{n}", text=f"text {n} of several words", user=f"u{n // 6}") for n in range(240)]


def thrown(unit, seed=0, **settings):
    return split(TEXTS, unit=unit, seed=seed, known_fraction=0.1, **settings)


def test_each_record_is_in_half_of_the_models_and_each_text_of_a_user_in_a_quarter():
    assert set(shadow_coins(TEXTS, thrown("record"), shadows=8, seed=0).sum(axis=0).tolist()) == {4}
    coins = shadow_coins(TEXTS, thrown("user"), shadows=8, seed=0)
    assert set(coins.sum(axis=0).tolist()) == {2}
    users = np.array([record.user for record in TEXTS])
    for user in sorted(set(users)):  # in the training of at most half of the models
        assert coins[:, users == user].any(axis=1).sum() <= 4


def test_models_of_a_pair_share_no_record_and_others_about_half():
    coins = shadow_coins(TEXTS, thrown("record"), shadows=8, seed=0)
    assert not (coins[0] & coins[1]).any()
    assert 0.35 < coins[0][coins[2]].mean() < 0.65
    assert 0.35 < coins[0].mean() < 0.65


def test_further_models_change_nothing_about_those_that_are_there():
    for unit in ("record", "user"):
        few, many = (shadow_coins(TEXTS, thrown(unit), shadows=count, seed=0) for count in (4, 12))
        np.testing.assert_array_equal(few, many[:4])


@pytest.mark.parametrize("unit", ["record", "user"])
def test_who_was_in_the_audited_model_changes_nothing(unit):
    """Other coins make other members, and in a split by user other roles."""
    one, other = thrown(unit, seed=0), thrown(unit, seed=1)
    assert (one.member != other.member).any()
    coins = [shadow_coins(TEXTS, coin, shadows=4, seed=7) for coin in (one, other, replace(one, member=~one.member))]
    np.testing.assert_array_equal(coins[0], coins[1])
    np.testing.assert_array_equal(coins[0], coins[2])


def test_they_are_other_coins_than_the_audited_models():
    membership = thrown("record")
    coins = shadow_coins(TEXTS, membership, shadows=8, seed=0)
    agree = (coins == membership.member).mean(axis=1)
    assert ((agree > 0.35) & (agree < 0.65)).all()


def test_other_chances_than_a_half_are_kept():
    coins = shadow_coins(TEXTS, thrown("record", probability=0.8), shadows=40, seed=0, probability=0.8)
    assert coins.mean() == pytest.approx(0.8, abs=0.02)
    coins = shadow_coins(TEXTS, thrown("user"), shadows=40, seed=0, train_fraction=0.8)
    assert coins.mean() == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("unit", ["record", "user"])
def test_a_cap_holds_in_every_model(unit):
    membership = thrown(unit, max_per_user=2)
    coins = shadow_coins(TEXTS, membership, shadows=8, seed=0, max_per_user=2)
    users = np.array([record.user for record in TEXTS])
    for row in coins:
        assert max(np.unique(users[row], return_counts=True)[1]) <= 2
    assert coins.any(axis=1).all()


def test_users_who_are_canaries_are_in_no_model():
    planted = plant_users(TEXTS, thrown("user"), users=5, words=3)
    coins = shadow_coins(planted.records, planted.membership, shadows=4, seed=0)
    canary = np.array([record.user in planted.phrases for record in TEXTS])
    assert not coins[:, canary].any()
    assert coins[:, ~canary].any(axis=0).mean() > 0.6
