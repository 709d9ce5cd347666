# SPDX-License-Identifier: Apache-2.0
"""The curve of what a mechanism allows: closed forms, simulated attacks, slow twins; errors are on the safe side."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from reticent.core.errors import BadInput
from reticent.privacy import accounting, tradeoff
from reticent.privacy.guarantee import auroc_bound
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.tradeoff import Losses, TradeoffCurve, below, of_gaussian, of_lines, of_promise
from reticent.stats.epsilon import gdp_epsilon

FPRS = np.concatenate([np.geomspace(1e-5, 0.5, 60), 1 - np.geomspace(1e-5, 0.5, 60)])
SAMPLED = Mechanism(noise_multiplier=1.0, rate=0.1)


def tpr_of_gaussian(mu, fpr):
    return norm.cdf(norm.ppf(fpr) + mu)


@pytest.mark.parametrize("mu", [0.01, 0.3, 1.0, 2.5, 5.0])
def test_the_gaussian_mechanism_has_its_closed_form(mu):
    curve = of_gaussian(mu)
    for fpr in FPRS:
        want = tpr_of_gaussian(mu, fpr)
        assert want - 1e-12 <= curve.tpr_at(fpr) <= want * 1.005
    got, want = curve.allowed(1e-5), norm.cdf(mu / math.sqrt(2))
    assert want <= got.auc <= min(1.0, want + 1e-4)
    assert tpr_of_gaussian(mu, 0.01) <= got.tpr_at_1pct_fpr <= tpr_of_gaussian(mu, 0.01) * 1.005
    assert tpr_of_gaussian(mu, 0.1) <= got.tpr_at_10pct_fpr <= tpr_of_gaussian(mu, 0.1) * 1.005
    assert mu <= got.mu <= mu * 1.001


@pytest.mark.parametrize("rate", [0.999999, 1.0])
@pytest.mark.parametrize("relation", ["add_or_remove", "zero_out", "replace_one"])
def test_without_sampling_the_losses_give_the_closed_form(rate, relation):
    """At a rate of 1 the form is taken, at one of almost 1 the accountant's losses are."""
    mechanism = Mechanism(noise_multiplier=10.0, rate=rate, relation=relation)
    got = accounting.allowed(mechanism, steps=50, delta=1e-5)
    mu = math.sqrt(50) / 10 * (2 if relation == "replace_one" else 1)
    assert norm.cdf(mu / math.sqrt(2)) - 1e-5 <= got.auc <= norm.cdf(mu / math.sqrt(2)) * 1.002
    assert tpr_of_gaussian(mu, 0.01) - 1e-5 <= got.tpr_at_1pct_fpr <= tpr_of_gaussian(mu, 0.01) * 1.005
    assert mu - 1e-4 <= got.mu <= mu * 1.005


def test_epsilon_1_allows_far_less_than_epsilon_and_delta_say():
    mechanism = Mechanism(noise_multiplier=3.771, rate=0.125)
    epsilon = accounting.spent(mechanism, steps=80, delta=1e-4).epsilon
    got, coarse = accounting.allowed(mechanism, steps=80, delta=1e-4), of_promise(epsilon, 1e-4)
    assert epsilon == pytest.approx(1.0, abs=1e-3)
    assert 0.58 < got.auc < 0.59
    assert coarse.auc == pytest.approx(0.731, abs=1e-3)
    assert got.tpr_at_1pct_fpr < 0.0225
    assert coarse.tpr_at_1pct_fpr == pytest.approx(0.0273, abs=1e-4)
    assert gdp_epsilon(got.mu, 1e-4) == pytest.approx(epsilon, rel=1e-2)


def likelihood_ratios(outputs, mechanism):
    """Log of the chance of outputs [steps, runs] with the unit over that without; of a replaced one, over the other."""
    rate, noise = mechanism.rate, mechanism.noise_multiplier

    def density(shift):
        return np.log1p(rate * np.expm1((2 * outputs * shift - shift * shift) / (2 * noise**2)))

    other = density(-1.0) if mechanism.relation == "replace_one" else 0.0
    return (density(1.0) - other).sum(0)


def simulated(mechanism, steps, runs, seed):
    """Scores of the best attack on ``runs`` trainings with the unit and as many without."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((2, steps, runs)) < mechanism.rate
    opposite = -1.0 if mechanism.relation == "replace_one" else 0.0
    outputs = (
        rng.normal(0, mechanism.noise_multiplier, (2, steps, runs)) + drawn * np.array([1.0, opposite])[:, None, None]
    )
    return likelihood_ratios(outputs[0], mechanism), likelihood_ratios(outputs[1], mechanism)


@pytest.mark.parametrize(
    ("mechanism", "steps"),
    [(SAMPLED, 20), (replace(SAMPLED, relation="replace_one"), 20), (Mechanism(noise_multiplier=2.0, rate=0.5), 30)],
)
def test_the_best_attack_reaches_the_curve_and_not_more(mechanism, steps):
    """200,000 trainings on each side, scored by the likelihood ratio of the worst pair of neighbours.

    At each of 8 false positive rates the simulated share lies within 5 standard errors, of the threshold and the share,
    of 1 % below the curve to the curve itself: a right curve fails for less than one choice of seeds in 10^5.
    """
    runs = 200_000
    inside, outside = simulated(mechanism, steps, runs, seed=7)
    curve = accounting.curve(mechanism, steps=steps)
    ranked = np.sort(outside)
    for fpr in (0.001, 0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 0.95):
        threshold = ranked[int((1 - fpr) * runs)]
        found = (inside > threshold).mean()
        spread = math.sqrt(fpr * (1 - fpr) / runs)
        slope = (curve.tpr_at(min(fpr + spread, 1)) - curve.tpr_at(fpr - spread)) / (2 * spread)
        error = math.hypot(math.sqrt(found * (1 - found) / runs), slope * spread)
        assert found <= curve.tpr_at(fpr) + 5 * error
        assert curve.tpr_at(fpr) <= found * 1.01 + 5 * error
    ranks = np.searchsorted(ranked, inside) / runs
    assert ranks.mean() == pytest.approx(curve.auc, abs=5 * ranks.std() * math.sqrt(2 / runs) + 1e-3)


def test_the_curve_of_owners_is_reached_by_the_best_attack_on_them():
    """The same for the mixture: an owner of 4 records, of which each is drawn by its own coin."""
    mechanism, steps, runs = Mechanism(noise_multiplier=4.0, rate=0.1, owned=4), 40, 200_000
    rng = np.random.default_rng(5)
    counts, chances, _ = mechanism.participation()
    noise = rng.normal(0, 4.0, (2, steps, runs))
    noise[0] += rng.binomial(4, 0.1, (steps, runs))
    inside, outside = (
        np.log(sum(c * np.exp((2 * side * k - k * k) / 32) for k, c in zip(counts, chances, strict=True))).sum(0)
        for side in noise
    )
    curve = accounting.curve(mechanism, steps=steps)
    for fpr in (0.01, 0.1, 0.5, 0.9):
        found = (inside > np.quantile(outside, 1 - fpr)).mean()
        assert curve.tpr_at(fpr) == pytest.approx(found, rel=0.01, abs=0.006)


def test_both_directions_are_those_of_the_accountant():
    for mechanism in (
        SAMPLED,
        Mechanism(noise_multiplier=4.0, rate=0.1, owned=4),
        replace(SAMPLED, relation="replace_one"),
    ):
        accountant = accounting._losses(mechanism, 30)
        epsilons = np.linspace(0, 6, 25)
        larger = np.maximum(*(side.deltas(epsilons) for side in accounting._sides(accountant)))
        assert larger == pytest.approx([accountant.get_delta(epsilon) for epsilon in epsilons], abs=1e-10)
        assert (accounting.curve(mechanism, steps=30).deltas(epsilons) >= larger - 1e-10).all()


def test_the_promised_epsilon_is_a_line_on_the_curve():
    for mechanism in (
        SAMPLED,
        Mechanism(noise_multiplier=20.0, rate=1.0),
        replace(SAMPLED, owned=4, noise_multiplier=5.0),
    ):
        spent = accounting.spent(mechanism, steps=40, delta=1e-5)
        got = accounting.curve(mechanism, steps=40).deltas(np.array([spent.epsilon, spent.epsilon * 0.97]))
        assert got[0] <= 1.001e-5 < got[1]


def deltas_one_by_one(losses, epsilon):
    """Slow twin: the definition."""
    return losses.infinite + sum(
        max(0.0, 1 - math.exp(epsilon - loss)) * max(chance, 0.0)
        for loss, chance in zip(losses.losses, losses.chances, strict=True)
    )


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_deltas_are_sums_over_losses(seed):
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(40)) * 0.99
    chances[rng.integers(0, 40)] = -1e-17  # rounding of a convolution
    losses = Losses(np.sort(rng.normal(0, 2, 40)), chances, 0.001)
    epsilons = np.sort(rng.uniform(0, 6, 20))
    assert losses.deltas(epsilons) == pytest.approx(
        [deltas_one_by_one(losses, epsilon) for epsilon in epsilons], abs=1e-12
    )


@given(seed=st.integers(0, 10**6), lines=st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_the_polygon_is_the_lowest_of_its_lines(seed, lines):
    rng = np.random.default_rng(seed)
    removed, added = np.sort(rng.uniform(0, 8, (2, lines)))
    deltas = np.sort(rng.uniform(0, 0.3, (2, lines)))[:, ::-1]
    curve = of_lines(removed, deltas[0], added, deltas[1])
    for fpr in np.concatenate([rng.random(20), curve.fpr]):
        lowest = min(
            1.0,
            *(np.exp(removed) * fpr + deltas[0]),
            *(1 - np.exp(-added) * (1 - deltas[1] - fpr)),
        )
        assert curve.tpr_at(fpr) == pytest.approx(lowest, abs=1e-9)
    assert (np.diff(curve.fpr) >= 0).all()
    assert (np.diff(curve.tpr) >= 0).all()
    assert (curve.fpr[0], curve.fpr[-1], curve.tpr[-1]) == (0.0, 1.0, 1.0)


@given(epsilon=st.floats(0, 30), delta=st.floats(0, 0.9))
@settings(deadline=None, max_examples=60)
def test_epsilon_and_delta_alone_have_their_closed_form(epsilon, delta):
    got = of_promise(epsilon, delta)
    assert auroc_bound(epsilon, delta) <= got.auc + 1e-12
    assert got.auc <= auroc_bound(epsilon, delta) + 3e-6
    for fpr, tpr in ((0.01, got.tpr_at_1pct_fpr), (0.1, got.tpr_at_10pct_fpr)):
        want = min(1.0, math.exp(epsilon) * fpr + delta, 1 - math.exp(-epsilon) * (1 - delta - fpr))
        assert want <= tpr + 1e-12
        assert tpr <= min(want + 3e-6, 1.0)


@pytest.mark.parametrize(
    "mechanism", [SAMPLED, Mechanism(noise_multiplier=4.0, rate=0.1, owned=4), replace(SAMPLED, rate=1.0)]
)
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_mu_covers_every_delta_from_the_promised_one_and_hardly_less_would(mechanism, delta):
    curve = accounting.curve(mechanism, steps=30)
    mu = curve.mu(delta)
    epsilons = np.linspace(0, gdp_epsilon(mu, delta) * 1.5, 400)
    asked = curve.deltas(epsilons)
    counts = asked >= delta
    assert counts.sum() > 100
    assert (tradeoff.gaussian_deltas(mu, epsilons) >= asked * (1 - 1e-6))[counts].all()
    assert (tradeoff.gaussian_deltas(mu * 0.99, epsilons) < asked)[counts].any()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_group_on_a_gaussian_curve_is_further_out_on_it(size):
    """G units of μ-GDP are Gμ-GDP (Dong, Roth and Su 2022, Theorem 2.14 with their example)."""
    group = of_gaussian(0.3).of_group(size)
    for fpr in FPRS:
        want = tpr_of_gaussian(0.3 * size, fpr)
        assert want - 1e-9 <= group.tpr_at(fpr) <= want * 1.005 + 1e-4
    assert 0.3 * size <= group.mu(1e-5) <= 0.3 * size * 1.01


def test_a_group_as_a_black_box_is_below_its_epsilon_and_above_the_mixture():
    mechanism = Mechanism(noise_multiplier=6.0, rate=0.05, owned=4, black_box=True)
    epsilon = accounting.spent(mechanism, steps=100, delta=1e-5).epsilon
    group = accounting.curve(mechanism, steps=100)
    mixture = accounting.curve(replace(mechanism, black_box=False), steps=100)
    for fpr in FPRS:
        assert mixture.tpr_at(fpr) <= group.tpr_at(fpr) + 1e-6
    assert group.auc < auroc_bound(epsilon, 1e-5)
    assert group.deltas(np.array([epsilon * 1.001]))[0] <= 1e-5


def test_no_step_allows_guessing_only():
    got = accounting.allowed(SAMPLED, steps=0, delta=1e-5)
    assert (got.auc, got.tpr_at_1pct_fpr, got.tpr_at_10pct_fpr, got.mu) == (0.5, 0.01, 0.1, 0.0)
    assert got.tpr_at(0.37) == 0.37


def test_too_little_noise_allows_everything():
    got = accounting.allowed(Mechanism(noise_multiplier=0.05, rate=1.0), steps=10, delta=1e-5)
    assert (got.auc, got.tpr_at_1pct_fpr) == (1.0, 1.0)
    assert got.mu > 30
    sure = TradeoffCurve(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert sure.mu(1e-5) > 30
    assert sure.of_group(3).auc == 1.0


def test_more_steps_allow_more():
    some, more = (accounting.allowed(SAMPLED, steps=steps, delta=1e-5) for steps in (20, 60))
    assert some.auc < more.auc
    assert some.tpr_at_1pct_fpr < more.tpr_at_1pct_fpr
    assert some.mu < more.mu


@pytest.mark.parametrize(
    "mechanism", [SAMPLED, replace(SAMPLED, rate=0.001), Mechanism(noise_multiplier=50.0, rate=0.3)]
)
def test_what_is_published_lies_on_or_above_the_curve(mechanism):
    curve = accounting.curve(mechanism, steps=30)
    got = curve.allowed(1e-5)
    assert len(got.roc) < 40
    assert got.auc >= curve.auc
    for fpr in FPRS:
        assert curve.tpr_at(fpr) - 1e-12 <= got.tpr_at(fpr) <= curve.tpr_at(fpr) * 1.1 + 1e-4
    assert got.tpr_at(0.01) == pytest.approx(got.tpr_at_1pct_fpr, abs=2e-6)


def test_of_lines_with_one_slope_the_lower_counts():
    curve = below(np.array([1.0, 1.0, 1.0]), np.array([0.3, 0.1, 0.2]))
    assert curve.tpr_at(0.5) == pytest.approx(0.6)


@pytest.mark.parametrize("change", [{"auc": 1.2}, {"auc": math.nan}, {"tpr_at_1pct_fpr": -0.1}, {"mu": math.inf}])
def test_what_is_no_rate_is_refused(change):
    with pytest.raises(BadInput):
        replace(of_promise(1.0, 1e-5), **change)


@given(
    noise=st.floats(0.4, 20),
    rate=st.floats(1e-3, 1),
    steps=st.integers(1, 300),
    delta=st.floats(1e-7, 1e-3),
    owned=st.sampled_from([(1, False), (3, True), (2, False)]),
    relation=st.sampled_from(["add_or_remove", "replace_one"]),
)
@settings(deadline=None, max_examples=15, derandomize=True)
def test_the_curve_never_allows_more_than_its_own_epsilon_and_delta(noise, rate, steps, delta, owned, relation):
    several, black_box = owned
    if relation == "replace_one" and not black_box:
        several = 1
    mechanism = Mechanism(noise_multiplier=noise, rate=rate, owned=several, black_box=black_box, relation=relation)
    try:
        epsilon = accounting.spent(mechanism, steps=steps, delta=delta).epsilon
    except BadInput:
        return  # too little noise for a promise
    got, coarse = accounting.allowed(mechanism, steps=steps, delta=delta), of_promise(epsilon, delta)
    for fine, most in zip(
        (got.auc, got.tpr_at_1pct_fpr, got.tpr_at_10pct_fpr),
        (coarse.auc, coarse.tpr_at_1pct_fpr, coarse.tpr_at_10pct_fpr),
        strict=True,
    ):
        assert fine <= most + 2e-6
    if epsilon > 0 and several == 1:
        assert tradeoff.gaussian_deltas(got.mu, np.array([epsilon]))[0] >= delta * 0.999
