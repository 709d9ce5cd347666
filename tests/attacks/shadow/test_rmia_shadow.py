# SPDX-License-Identifier: Apache-2.0
"""RMIA with shadow models against a double loop, and its order against that of the ratio."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.shadow.rmia_shadow import edge_cases, rmia_shadow
from reticent.attacks.shadow.rmia_shadow_offline import edge_cases as offline_cases
from reticent.attacks.shadow.rmia_shadow_offline import fitted, rmia_shadow_offline
from reticent.core.errors import BadInput


def sides(scores):
    """``(log mean p with, log mean p without)`` of each text; what is missing at the mean distance of the others."""
    found = []
    for row, saw in zip(scores.shadows, scores.inside, strict=True):
        both = []
        for side in (True, False):
            chosen = [math.exp(value) for value, inside in zip(row, saw, strict=True) if inside == side]
            both.append(math.log(statistics.fmean(chosen)) if chosen else None)
        found.append(both)
    known = [one[0] - one[1] for one in found if None not in one]
    shift = statistics.fmean(known) if known else 0.0
    return [
        (one[0] if one[0] is not None else one[1] + shift, one[1] if one[1] is not None else one[0] - shift)
        for one in found
    ]


def naive(scores, known, gamma, probability):
    def ratios(some):
        return [
            math.exp(target) / probability(math.exp(inside), math.exp(outside))
            for target, (inside, outside) in zip(some.target, sides(some), strict=True)
        ]

    population = ratios(known)
    found = []
    for ratio in ratios(scores):
        beaten = sum(ratio / z >= gamma for z in population)
        found.append((beaten + 0.5 + math.atan(math.log(ratio)) / math.pi) / (len(population) + 1))
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 999), st.sampled_from([0.5, 1.0, 1.7]))
def test_equals_a_double_loop(made_up, texts, population, seed, gamma):
    scores, known = made_up(texts, 6, seed), made_up(population, 6, seed + 1)
    online = naive(scores, known, gamma, lambda inside, outside: (inside + outside) / 2)
    np.testing.assert_allclose(rmia_shadow(scores, known, gamma=gamma), online, atol=1e-9)
    for a in (0.0, 0.3, 1.0):
        offline = naive(scores, known, gamma, lambda _, outside, a=a: (1 + a) / 2 * outside + (1 - a) / 2)
        np.testing.assert_allclose(rmia_shadow_offline(scores, known, a=a, gamma=gamma), offline, atol=1e-9)


def test_the_line_is_fitted_to_the_population(made_up):
    known = made_up(400, 8, 3)
    pairs = [(1 - math.exp(inside), 1 - math.exp(outside)) for inside, outside in sides(known)]
    best = min(np.linspace(0, 1, 2001), key=lambda a: sum((one - a * other) ** 2 for one, other in pairs))
    assert fitted(known) == pytest.approx(best, abs=1e-3)
    scores = made_up(20, 8, 4)
    expected = rmia_shadow_offline(scores, known, a=fitted(known))
    np.testing.assert_array_equal(rmia_shadow_offline(scores, known), expected)


def test_the_order_is_that_of_the_ratio_whatever_the_population(made_up):
    scores = made_up(200, 8, 5)
    orders = [np.argsort(rmia_shadow(scores, made_up(size, 8, 6), gamma=gamma)) for size, gamma in ((3, 1), (90, 2))]
    np.testing.assert_array_equal(*orders)
    found = rmia_shadow(scores, made_up(90, 8, 6))
    assert ((found > 0) & (found < 1)).all()


@pytest.mark.parametrize("attack", [rmia_shadow, rmia_shadow_offline])
def test_coins_that_have_nothing_to_do_with_the_scores_give_chance(attack, made_up):
    """Of 4000 texts the area lies within 0.5 ± 0.03, three standard errors."""
    found = attack(made_up(4000, 8, 7), made_up(100, 8, 8))
    member = np.random.default_rng(9).random(4000) < 0.5
    ranks = np.argsort(np.argsort(found)) + 1
    inside = member.sum()
    assert abs((ranks[member].sum() - inside * (inside + 1) / 2) / (inside * (~member).sum()) - 0.5) < 0.03


def test_texts_above_the_whole_population_are_counted(made_up):
    scores, known = made_up(50, 6, 10), made_up(2, 6, 11)
    for cases, attack in ((edge_cases, rmia_shadow), (offline_cases, rmia_shadow_offline)):
        counted = [rows for said, rows in cases(scores, known).items() if said.startswith("above all 2 ")]
        assert counted == [int((attack(scores, known) > 2 / 3).sum())]


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": -1.0}])
def test_a_factor_that_is_none_is_refused(settings, made_up):
    scores = made_up(4, 4, 0)
    with pytest.raises(BadInput):
        rmia_shadow(scores, scores, **settings)
    with pytest.raises(BadInput):
        rmia_shadow_offline(scores, scores, **settings)
    with pytest.raises(BadInput):
        rmia_shadow_offline(scores, scores, a=1.5)
