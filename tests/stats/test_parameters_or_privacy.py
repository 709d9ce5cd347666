# SPDX-License-Identifier: Apache-2.0
"""The closed form against a grid, a quadrature and simulated regressions, and our ROC against the closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from reticent.core.errors import BadInput
from reticent.stats.intervals import clopper_pearson
from reticent.stats.parameters_or_privacy import advantage, gaussian_advantage, gaussian_auc, spread, threshold
from reticent.stats.roc import auc, roc_curve

N, D, SIGMA = 30, 300, 0.5
spreads = st.floats(0.1, 10)


def simulate(p, *, n=N, d=D, sigma=SIGMA, ridge=0.0, runs=3000, seed=0):
    """Predictions for one member and one held-out example of each of ``runs`` regressions: independent of each other.

    Solved in the examples' own space: ``ŷ(x) = x·Xᵀ·(XXᵀ + ridge)⁻¹·y``.
    """
    rng = np.random.default_rng(seed)
    member, held_out = [], []
    for _ in range(runs // 100):
        x, beta = rng.standard_normal((100, n + 1, d)), rng.standard_normal((100, d, 1)) / math.sqrt(d)
        y = (x @ beta)[..., 0] + sigma * rng.standard_normal((100, n + 1))
        seen = x[:, :n, :p]
        gram = seen @ seen.transpose(0, 2, 1) + ridge * np.eye(n)
        dual = np.linalg.solve(gram, y[:, :n, None])
        weights = seen.transpose(0, 2, 1) @ dual
        member.append((x[:, 0, None, :p] @ weights)[:, 0, 0])
        held_out.append((x[:, n, None, :p] @ weights)[:, 0, 0])
    return np.concatenate(member), np.concatenate(held_out)


@given(spreads, spreads)
def test_no_threshold_does_better(one, other):
    grid = np.concatenate([np.linspace(0, 60, 20001), [threshold(one, other)]])
    best = np.abs(2 * (norm.cdf(grid / other) - norm.cdf(grid / one))).max()
    assert gaussian_advantage(one, other) == pytest.approx(best, abs=1e-12)


@given(spreads, spreads)
def test_it_is_the_total_variation_distance(one, other):
    """For all attackers, not only those with a threshold: half the area between the densities."""
    x = np.linspace(-60, 60, 24_001)
    apart = np.abs(norm.pdf(x, scale=one) - norm.pdf(x, scale=other)).sum() * (x[1] - x[0]) / 2
    assert gaussian_advantage(one, other) == pytest.approx(apart, abs=1e-4)


def test_equal_spreads_give_nothing_away():
    assert gaussian_advantage(1.0, 1.0) == 0
    assert threshold(1.0, 1.0) == pytest.approx(threshold(1.0, 1.0 + 1e-9))
    assert gaussian_auc(1.0, 1.0) == 0.5


@pytest.mark.parametrize("ridge", [0.0, 30.0, 200.0])
@pytest.mark.parametrize("p", [60, 150, 300])
def test_simulated_regressions_agree(p, ridge):
    """Error rate: four checks of nine settings at 99.9 %, so one false alarm in about 30 seeds; the seed is fixed.

    Spread (sample variance, Gaussian error), advantage at the closed form's threshold (Clopper-Pearson, each side),
    and the AUC by our own `roc.auc`. At p = 60 predictions have slightly heavy tails, hence 3 % more on the spread.
    """
    member, held_out = simulate(p, ridge=ridge)
    expected = spread(N, p, SIGMA, d=D, ridge=ridge)
    for said, found in ((expected.member, member), (expected.held_out, held_out)):
        assert found.std() == pytest.approx(said, rel=3.3 / math.sqrt(2 * len(found)) + 0.03)
    cut = threshold(*expected)
    high = [clopper_pearson((np.abs(x) > cut).sum(), len(x), confidence=0.9995) for x in (member, held_out)]
    assert high[0].lo - high[1].hi <= advantage(N, p, SIGMA, d=D, ridge=ridge) <= high[0].hi - high[1].lo
    estimate = auc(np.abs(member), np.abs(held_out), confidence=0.999)
    assert estimate.lo <= gaussian_auc(*expected) <= estimate.hi


def test_our_roc_finds_the_advantage_and_it_grows_with_the_parameters():
    """The largest TPR - FPR of the empirical curve; choosing the threshold on the sample adds at most a little."""
    found, said = [], []
    for p in (60, 120, 300):
        curve = roc_curve(*map(np.abs, simulate(p, seed=p, runs=2000)))
        found.append(float((curve.tpr - curve.fpr).max()))
        said.append(advantage(N, p, SIGMA, d=D))
        assert found[-1] == pytest.approx(said[-1], abs=0.05)
    assert sorted(found) == found
    assert sorted(said) == said


def test_advantage_grows_with_the_parameters_from_where_predictions_are_as_wide():
    """Near p = n the shortest fit is wild: held-out predictions are wider than members', which tells as well."""
    ps = [p for p in range(N + 2, D + 1) if spread(N, p, SIGMA, d=D).held_out < spread(N, p, SIGMA, d=D).member]
    values = [advantage(N, p, SIGMA, d=D) for p in ps]
    assert values == sorted(values)
    assert advantage(N, N + 2, SIGMA, d=D) > advantage(N, ps[0], SIGMA, d=D)


def test_ridge_helps_the_attacker_once_over_parameterised():
    """As the paper says: the penalty shrinks held-out predictions more than members'."""
    values = [advantage(N, 60, SIGMA, d=D, ridge=ridge) for ridge in (0, 5, 20, 60)]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.05


def test_ridge_goes_over_into_the_shortest_fit():
    """The law of Marchenko and Pastur leaves out the 1 in ``p - n - 1``."""
    for p in (100, 1000):
        ridged, plain = spread(100 // 2, p, 1.0, ridge=1e-9), spread(100 // 2, p, 1.0)
        assert ridged.member == pytest.approx(plain.member)
        assert ridged.held_out == pytest.approx(plain.held_out, rel=1 / (p - 51))


def test_noise_on_the_output_is_like_fewer_parameters():
    """Both bring the two spreads together."""
    wide = spread(N, 300, SIGMA, d=D)
    noised = [math.hypot(one, 0.8) for one in wide]
    assert gaussian_advantage(*noised) < gaussian_advantage(*wide)


@pytest.mark.parametrize(("n", "p", "d"), [(30, 31, 100), (30, 20, 100), (30, 200, 100)])
def test_other_regimes_are_refused(n, p, d):
    with pytest.raises(BadInput, match="more parameters than examples"):
        advantage(n, p, 1.0, d=d)
