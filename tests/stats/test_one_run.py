# SPDX-License-Identifier: Apache-2.0
"""One-run audits: golden values, naive twins, closed form, validity by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from reticent.core.errors import BadInput
from reticent.stats.one_run import gdp_one_run_mu, guesses_a_side, one_run_epsilon, one_run_p_value, rejects_gdp

GOLDEN = [  # units, guesses, correct, epsilon at delta 0, at 1e-5; significance 0.05; to the printed digits
    (1000, 100, 100, 3.4930, 3.4654),
    (1000, 100, 90, 1.6308, 1.6261),
    (1000, 100, 75, 0.7022, 0.6995),
    (1000, 100, 60, 0.0519, 0.0495),
    (1000, 1000, 600, 0.2975, 0.2972),
    (1000, 1000, 550, 0.0942, 0.0940),
    (500, 50, 50, 2.7847, 2.7705),
    (200, 100, 75, 0.7022, 0.7017),
]
GOLDEN_GDP = [
    (1000, 100, 100, 1.2255),
    (1000, 100, 90, 0.6025),
    (1000, 100, 75, 0.2695),
    (1000, 1000, 600, 0.1638),
    (1000, 1000, 550, 0.0573),
]


@pytest.mark.parametrize(("m", "r", "v", "pure", "approximate"), GOLDEN)
def test_golden_epsilon(m, r, v, pure, approximate):
    assert round(one_run_epsilon(m, r, v, delta=0, miss=0.05), 4) == pure
    assert round(one_run_epsilon(m, r, v, delta=1e-5, miss=0.05), 4) == approximate


@pytest.mark.parametrize(("m", "r", "v", "mu"), GOLDEN_GDP)
def test_golden_mu(m, r, v, mu):
    # the table was rounded from a coarser bisection: 0.16385 is printed as 0.1638
    assert gdp_one_run_mu(m, r, v, miss=0.05) == pytest.approx(mu, abs=6e-5)


def test_all_right_has_a_closed_form():
    """q^r = miss, so epsilon = ln(q / (1 - q))."""
    q = 0.05 ** (1 / 100)
    assert one_run_epsilon(1000, 100, 100, delta=0, miss=0.05) == pytest.approx(math.log(q / (1 - q)), abs=1e-8)


def p_value_naive(m, r, v, epsilon, delta):
    """Twin: sum the binomial term by term, and try every i."""
    q = 1 / (1 + math.exp(-epsilon))
    mass = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    worst = max((sum(mass[v - i : v]) / i for i in range(1, v + 1)), default=0.0)
    return min(1.0, sum(mass[v:]) + 2 * m * delta * worst)


counts = st.integers(1, 40).flatmap(lambda r: st.tuples(st.integers(r, 200), st.just(r), st.integers(0, r)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(counts, st.floats(0, 5), st.sampled_from([0.0, 1e-5, 1e-3, 0.1]))
def test_p_value_equals_its_naive_twin(mrv, epsilon, delta):
    assert one_run_p_value(*mrv, epsilon, delta=delta) == pytest.approx(p_value_naive(*mrv, epsilon, delta), abs=1e-11)


def rejects_naive(m, r, v, mu, miss):
    """Twin: the recursion written with arrays h[i], R[i] as in the paper, no early end."""
    h, mass = [0.0] * (v + 1), [0.0] * (v + 1)
    h[v], mass[v] = miss * (r - v) / m, miss * v / m
    for i in range(v - 1, -1, -1):
        h[i] = max(h[i + 1], norm.cdf(norm.ppf(min(mass[i + 1], 1.0)) - mu))
        mass[i] = mass[i + 1] + i / (r - i) * (h[i] - h[i + 1])
    return mass[0] + h[0] > r / m


@settings(max_examples=80, deadline=None, derandomize=True)
@given(counts, st.floats(0, 3), st.sampled_from([0.01, 0.05, 0.2]))
def test_gdp_rejection_equals_its_naive_twin(mrv, mu, miss):
    assert rejects_gdp(*mrv, mu, miss=miss) == rejects_naive(*mrv, mu, miss)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(counts)
def test_more_right_guesses_never_lower_the_bound(mrv):
    m, r, v = mrv
    if v < r:
        assert one_run_epsilon(m, r, v, delta=1e-5, miss=0.05) <= one_run_epsilon(m, r, v + 1, delta=1e-5, miss=0.05)
        assert gdp_one_run_mu(m, r, v, miss=0.05) <= gdp_one_run_mu(m, r, v + 1, miss=0.05)


def test_guessing_by_coin_shows_nothing():
    assert one_run_epsilon(1000, 100, 50, delta=1e-5, miss=0.05) == 0.0
    assert gdp_one_run_mu(1000, 100, 50, miss=0.05) == 0.0
    assert one_run_epsilon(1000, 100, 0, delta=1e-5, miss=0.05) == 0.0


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_randomised_response_is_overestimated_at_most_as_often_as_stated(epsilon):
    """Exact, no sampling: each of 200 guesses is right with q = e^ε / (1 + e^ε), which is the worst ε-DP algorithm."""
    q = 1 / (1 + math.exp(-epsilon))
    bounds = np.array([one_run_epsilon(200, 200, v, delta=0, miss=0.05) for v in range(201)])
    too_high = binom.pmf(np.arange(201), 200, q)[bounds > epsilon].sum()
    assert 0.01 < too_high <= 0.05


@pytest.mark.parametrize(("mu", "guesses"), [(1.0, 100), (1.0, 500), (0.3, 500)])
def test_gaussian_mechanism_is_overestimated_at_most_as_often_as_stated(mu, guesses):
    """300 audits of 500 coins through a μ-GDP mechanism; 5 % and four binomial standard errors (1.3 % each)."""
    rng = np.random.default_rng(0)
    bounds = {}
    high = []
    for _ in range(300):
        coin = rng.random(500) < 0.5
        score = rng.normal(mu * coin, 1)
        extreme = np.argsort(-np.abs(score - mu / 2))[:guesses]
        v = int(((score[extreme] > mu / 2) == coin[extreme]).sum())
        if v not in bounds:
            bounds[v] = gdp_one_run_mu(500, guesses, v, miss=0.05)
        high.append(bounds[v])
    assert np.mean(np.array(high) > mu) <= 0.05 + 4 * 0.013
    assert np.median(high) > 0.3 * mu or mu < 0.5  # and the bound is not empty


def test_guesses_depend_on_the_number_of_units_only_and_always_fit():
    sides = [guesses_a_side(units) for units in range(1, 3000)]
    assert all(side >= 1 for side in sides)
    assert all(2 * side <= units for units, side in enumerate(sides[1:], start=2))
    assert sides == sorted(sides)
    assert guesses_a_side(5000) == 250


def test_with_few_units_more_guesses_show_more():
    """40 units that are told apart without fail: four guesses a side prove next to nothing."""
    few = one_run_epsilon(40, 8, 8, delta=1e-5, miss=0.05)
    assert one_run_epsilon(40, 2 * guesses_a_side(40), 2 * guesses_a_side(40), delta=1e-5, miss=0.05) > few + 0.9


@pytest.mark.parametrize(("m", "r", "v"), [(10, 11, 5), (10, 5, 6), (10, 0, 0), (10, 5, -1)])
def test_impossible_counts_are_refused(m, r, v):
    for call in (
        lambda: one_run_epsilon(m, r, v, delta=0, miss=0.05),
        lambda: gdp_one_run_mu(m, r, v, miss=0.05),
    ):
        with pytest.raises(BadInput):
            call()


def test_impossible_delta_and_miss_are_refused():
    with pytest.raises(BadInput):
        one_run_epsilon(10, 5, 5, delta=-0.1, miss=0.05)
    with pytest.raises(BadInput):
        one_run_epsilon(10, 5, 5, delta=0, miss=0.0)
