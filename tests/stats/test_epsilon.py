# SPDX-License-Identifier: Apache-2.0
"""ε from scores: golden values, known mechanisms, ties, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import beta, norm

from reticent.core.errors import BadInput
from reticent.stats import epsilon as eps
from reticent.stats.one_run import gdp_one_run_mu, one_run_epsilon


@pytest.mark.parametrize(
    ("tp", "m", "fp", "n", "want"),
    [(500, 1000, 10, 1000, 3.2420), (100, 1000, 0, 1000, 3.1044), (900, 1000, 100, 1000, 1.9897)],
)
def test_golden_clopper_pearson(tp, m, fp, n, want):
    assert round(eps.epsilon_at_threshold(tp, m, fp, n, delta=1e-5, miss=0.05), 4) == want


def test_the_other_direction_counts_too():
    """Few false negatives: swapping the roles of the two errors gives the same bound."""
    assert eps.epsilon_at_threshold(990, 1000, 500, 1000, delta=1e-5, miss=0.05) == pytest.approx(3.2420, abs=5e-5)


def test_delta_can_explain_everything():
    assert eps.epsilon_at_threshold(50, 1000, 0, 1000, delta=0.2, miss=0.05) == 0.0


@pytest.mark.parametrize(
    ("m", "r", "v", "want"),
    [
        (1000, 100, 100, 5.5490),
        (1000, 100, 90, 2.4564),
        (1000, 100, 75, 1.0059),
        (1000, 1000, 600, 0.5835),
        (1000, 1000, 550, 0.1856),
    ],
)
def test_golden_gdp_epsilon(m, r, v, want):
    assert round(eps.gdp_epsilon(gdp_one_run_mu(m, r, v, miss=0.05), 1e-5), 4) == want


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.01, 8), st.sampled_from([1e-10, 1e-6, 1e-3, 0.1]))
def test_gdp_epsilon_inverts_the_textbook_formula(mu, delta):
    def delta_at(e):
        return norm.cdf(-e / mu + mu / 2) - math.exp(e) * norm.cdf(-e / mu - mu / 2)

    e = eps.gdp_epsilon(mu, delta)
    if e == 0:
        assert delta_at(0) <= delta
    else:
        assert delta_at(e) == pytest.approx(delta, rel=1e-4)


def test_gdp_epsilon_of_nothing_and_of_much():
    assert eps.gdp_epsilon(0.0, 1e-5) == 0.0
    # at mu = 60 the textbook formula overflows; ε is near mu²/2 + mu·Φ⁻¹(1 − δ)
    assert eps.gdp_epsilon(60.0, 1e-5) == pytest.approx(1800 + 60 * norm.isf(1e-5), rel=1e-3)
    with pytest.raises(BadInput):
        eps.gdp_epsilon(1.0, 0.0)


def bounds_of(member, held_out, *, delta, k, unit):
    """One-run, Gaussian one-run, Clopper-Pearson and ROC, in this order."""
    about = {"delta": delta, "unit": unit}
    guesses = {"k_plus": k, "k_minus": k}
    return [
        eps.epsilon_one_run(member, held_out, **about, **guesses),
        eps.epsilon_gdp_one_run(member, held_out, **about, **guesses),
        eps.epsilon_clopper_pearson(member, held_out, **about),
        eps.epsilon_gdp_roc(member, held_out, **about),
    ]


def count_naive(member, held_out, k_plus, k_minus):
    """Twin: sort pairs by hand, wrong guesses first within a tie."""
    top = sorted([(-s, 1) for s in member] + [(-s, 0) for s in held_out])[:k_plus]
    low = sorted([(s, 0) for s in member] + [(s, 1) for s in held_out])[:k_minus]
    return sum(right for _, right in top) + sum(right for _, right in low)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, np.inf]), min_size=5, max_size=12),
    st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, np.inf]), min_size=5, max_size=12),
    st.integers(0, 5),
    st.integers(1, 5),
)
def test_guesses_count_ties_as_wrong(member, held_out, k_plus, k_minus):
    got = eps.count_guesses(member, held_out, k_plus=k_plus, k_minus=k_minus)
    assert got == (len(member) + len(held_out), k_plus + k_minus, count_naive(member, held_out, k_plus, k_minus))


def test_constant_scores_are_all_wrong():
    assert eps.count_guesses(np.zeros(50), np.zeros(50), k_plus=10, k_minus=10).correct == 0


def test_front_ties_the_parts_together():
    rng = np.random.default_rng(0)
    member, held_out = rng.normal(2, 1, 480), rng.normal(0, 1, 520)
    bounds = bounds_of(member, held_out, delta=1e-5, k=50, unit="user")
    one_run, gdp_one_run, _, gdp_roc = bounds
    right = eps.count_guesses(member, held_out, k_plus=50, k_minus=50).correct
    assert one_run.value == one_run_epsilon(1000, 100, right, delta=1e-5, miss=1 - 0.95)
    mu = gdp_one_run_mu(1000, 100, right, miss=1 - 0.95)
    assert gdp_one_run.value == eps.gdp_epsilon(mu, 1e-5)
    assert "assuming Gaussian DP" in gdp_one_run.method
    assert "assuming Gaussian DP" in gdp_roc.method
    for e in bounds:
        assert (e.lo, e.hi, e.n) == (e.value, math.inf, 1000)
        assert e.unit == "nats (δ = 1e-05, one user added or removed)"


def test_threshold_ranks_depend_on_the_count_only_and_span_it():
    for n in (1, 2, 7, 1000):
        ranks = eps.threshold_ranks(n)
        assert ranks[0] == 1
        assert ranks[-1] == n
        assert len(ranks) <= 2 * math.log2(n) + 2
        assert np.all(np.diff(ranks) > 0)


def test_bounds_over_thresholds_equal_a_loop_over_thresholds():
    """Twin: for each rank, Beta quantiles straight from scipy.stats."""
    rng = np.random.default_rng(1)
    x, y = np.round(rng.normal(2, 1, 90), 1), np.round(rng.normal(0, 1, 110), 1)
    ranks = eps.threshold_ranks(110)
    a = 0.05 / len(ranks) / 2
    best_eps, best_mu = 0.0, 0.0
    for k in ranks:
        caught = int((x > np.sort(y)[::-1][k - 1]).sum())
        fpr = beta.ppf(1 - a, k, 110 - k + 1)
        tpr = beta.ppf(a, caught, 90 - caught + 1) if caught else 0.0
        for top, bottom in ((tpr, fpr), (1 - fpr, 1 - tpr)):
            if top > 1e-5:
                best_eps = max(best_eps, math.log((top - 1e-5) / bottom))
        if tpr > 0:
            best_mu = max(best_mu, norm.ppf(1 - fpr) - norm.ppf(1 - tpr))
    got = eps.epsilon_clopper_pearson(x, y, delta=1e-5, unit="record")
    assert got.value == pytest.approx(best_eps, abs=1e-9)
    roc = eps.epsilon_gdp_roc(x, y, delta=1e-5, unit="record")
    assert roc.value == pytest.approx(eps.gdp_epsilon(best_mu, 1e-5), abs=1e-6)
    assert best_eps > 0.5


@pytest.mark.parametrize("mu", [0.0, 1.0, 2.0])
def test_gaussian_mechanism_is_overestimated_at_most_as_often_as_stated(mu):
    """300 audits with 200 + 200 independent units of a μ-GDP mechanism; 5 % + four standard errors (5 %)."""
    rng = np.random.default_rng(2)
    truth = eps.gdp_epsilon(mu, 1e-3)
    too_high = np.zeros(4)
    for _ in range(300):
        coin = rng.random(400) < 0.5
        score = rng.normal(mu * coin, 1)
        bounds = bounds_of(score[coin], score[~coin], delta=1e-3, k=30, unit="record")
        too_high += [e.value > truth for e in bounds]
    assert np.all(too_high / 300 <= 0.10)


def test_pure_dp_randomised_response_is_found_but_not_exceeded():
    """Scores 0/1 through ε = 2 randomised response, 2,000 units: the bounds lie between 1 and 2."""
    rng = np.random.default_rng(3)
    coin = rng.random(2000) < 0.5
    said = np.where(rng.random(2000) < 1 / (1 + math.exp(-2)), coin, ~coin) + rng.random(2000) * 0.01
    one_run, _, clopper_pearson, _ = bounds_of(said[coin], said[~coin], delta=1e-6, k=800, unit="record")
    assert 1 < clopper_pearson.value < 2
    assert 1.5 < one_run.value < 2


def test_tightness_against_the_best_single_threshold():
    """The correction costs little: within 25 % of the bound at the best threshold fixed in advance."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(3, 1, 2000), rng.normal(0, 1, 2000)
    at = brentq(lambda t: norm.sf(t) - 0.002, 0, 6)
    fixed = eps.epsilon_at_threshold(int((x > at).sum()), 2000, int((y > at).sum()), 2000, delta=1e-5, miss=0.05)
    assert eps.epsilon_clopper_pearson(x, y, delta=1e-5, unit="record").value > 0.75 * fixed


def test_refusals():
    x, y = np.arange(50.0), np.arange(50.0)
    good = {"delta": 1e-5, "k_plus": 5, "k_minus": 5, "unit": "record"}
    for bad in ({"unit": "token"}, {"delta": 1.0}, {"delta": -1e-9}, {"k_plus": 0, "k_minus": 0}, {"k_plus": 99}):
        with pytest.raises(BadInput):
            eps.epsilon_one_run(x, y, **(good | bad))
    with pytest.raises(BadInput, match="fair coin"):
        eps.epsilon_one_run(np.arange(80.0), np.arange(20.0), **good)
    with pytest.raises(BadInput):
        eps.epsilon_one_run([math.nan, *x], y, **good)
    for bound in (eps.epsilon_clopper_pearson, eps.epsilon_gdp_roc):
        for bad in ({"unit": "token"}, {"delta": 1.0}, {"delta": -1e-9}):
            with pytest.raises(BadInput):
                bound(x, y, **({"delta": 1e-5, "unit": "record"} | bad))
