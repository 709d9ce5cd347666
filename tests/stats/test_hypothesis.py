# SPDX-License-Identifier: Apache-2.0
"""Corrections and tests against chance: twins, exact enumeration, validity under the null."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.hypothesis import (
    auc_permutation_p,
    choose_on_half,
    family_confidence,
    holm,
    p_values,
)
from reticent.stats.roc import auc


def test_family_confidence():
    assert family_confidence(0.95, 1) == pytest.approx(0.95)
    assert family_confidence(0.95, 20) == pytest.approx(0.9975)
    with pytest.raises(BadInput):
        family_confidence(0.95, 0)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_its_definition(p):
    """Twin: the adjusted p of a test is the largest stepped p among all tests with no larger p."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    want = [0.0] * len(p)
    for place, i in enumerate(order):
        want[i] = min(1.0, max((len(p) - k) * p[order[k]] for k in range(place + 1)))
    np.testing.assert_allclose(holm(p), want)
    assert np.all(holm(p) <= np.minimum(1, np.array(p) * len(p)) + 1e-12)  # never worse than Bonferroni


def test_holm_keeps_the_family_error():
    """2,000 families of 10 true nulls that depend on each other; 5 % + four standard errors (2 %)."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2000, 1))
    z = 0.7 * shared + math.sqrt(1 - 0.49) * rng.normal(size=(2000, 10))
    p = 0.5 * np.vectorize(math.erfc)(z / math.sqrt(2))
    assert np.mean([holm(row).min() <= 0.05 for row in p]) <= 0.07


@pytest.mark.parametrize("p", [[-0.1], [1.1], [float("nan")], []])
def test_holm_refuses_what_is_no_probability(p):
    with pytest.raises(BadInput):
        holm(p)


tied = st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, np.inf]), min_size=1, max_size=15)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tied, tied)
def test_p_values_equal_a_loop(scores, held_out):
    want = [(1 + sum(h >= s for h in held_out)) / (1 + len(held_out)) for s in scores]
    np.testing.assert_allclose(p_values(scores, held_out), want)


def test_p_values_of_fresh_units_are_valid():
    """P(p <= a) <= a for exchangeable units: 4,000 draws, four standard errors (0.35 % each at 5 %)."""
    rng = np.random.default_rng(1)
    p = np.array([p_values(rng.normal(size=1), rng.normal(size=39))[0] for _ in range(4000)])
    for a in (0.025, 0.05, 0.5):
        assert np.mean(p <= a) <= a + 4 * math.sqrt(a * (1 - a) / 4000)
    assert p.min() == 1 / 40


def test_permutation_p_equals_full_enumeration():
    """All 126 relabellings of 4 + 5 tied scores, against 20,000 random ones (four standard errors)."""
    x, y = np.array([3.0, 2.0, np.inf, 1.0]), np.array([0.0, 1.0, 2.0, -np.inf, 0.5])
    pooled, observed = np.concatenate([x, y]), auc(x, y).value
    reached = [
        auc(pooled[list(c)], np.delete(pooled, list(c))).value >= observed - 1e-12
        for c in itertools.combinations(range(9), 4)
    ]
    exact = np.mean(reached)
    for a, b in ((x, y), (-y, -x)):  # the second draws the smaller group as held-out
        got = auc_permutation_p(a, b, permutations=20_000, seed=0)
        assert got == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))


def test_permutation_p_is_never_0_and_valid_under_the_null():
    rng = np.random.default_rng(2)
    assert auc_permutation_p(rng.normal(9, 1, 50), rng.normal(0, 1, 50), permutations=99) == 0.01
    p = [auc_permutation_p(rng.normal(size=12), rng.normal(size=20), permutations=99, seed=seed) for seed in range(600)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 4 * 0.009  # 600 audits, four binomial standard errors


def test_choice_finds_the_informative_attack_and_leaves_the_other_half():
    rng = np.random.default_rng(3)
    member, held_out = rng.normal(size=(200, 5)), rng.normal(size=(301, 5))
    member[:, 3] += 2
    choice = choose_on_half(member, held_out, seed=1)
    assert choice.attack == 3
    assert (choice.member.sum(), choice.held_out.sum()) == (100, 151)
    chosen_on = auc(member[~choice.member, 3], held_out[~choice.held_out, 3]).value
    assert choice.auc == pytest.approx(chosen_on)


def test_choosing_on_a_half_keeps_the_error_and_choosing_on_all_does_not():
    """300 audits of 20 worthless attacks: the interval of the chosen one must cover 0.5 as often as it says."""
    rng = np.random.default_rng(4)
    honest, greedy = 0, 0
    for seed in range(300):
        member, held_out = rng.normal(size=(60, 20)), rng.normal(size=(60, 20))
        c = choose_on_half(member, held_out, seed=seed)
        honest += auc(member[c.member, c.attack], held_out[c.held_out, c.attack]).lo > 0.5
        best = max(range(20), key=lambda a: (member[:, a, None] > held_out[:, a]).mean())
        greedy += auc(member[:, best], held_out[:, best]).lo > 0.5
    assert honest / 300 <= 0.025 + 4 * 0.009
    assert greedy / 300 > 0.2


def test_users_stay_in_one_half():
    rng = np.random.default_rng(5)
    mu, hu = rng.integers(0, 30, 200), rng.integers(15, 60, 250)
    c = choose_on_half(rng.normal(size=(200, 2)), rng.normal(size=(250, 2)), member_cluster=mu, held_out_cluster=hu)
    rest = set(mu[c.member]) | set(hu[c.held_out])
    chose = set(mu[~c.member]) | set(hu[~c.held_out])
    assert not rest & chose
    assert abs(len(rest) - len(chose)) <= 3


def test_choice_refusals():
    x = np.zeros((10, 2))
    for bad in (np.zeros((10, 3)), np.zeros(10), np.full((10, 2), np.nan)):
        with pytest.raises(BadInput):
            choose_on_half(x, bad)
    with pytest.raises(BadInput):
        choose_on_half(x, x, member_cluster=np.arange(10))
    with pytest.raises(BadInput):
        choose_on_half(x, x, member_cluster=np.arange(9), held_out_cluster=np.arange(10))
    with pytest.raises(Underpowered):
        choose_on_half(x[:3], x)
