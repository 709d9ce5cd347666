# SPDX-License-Identifier: Apache-2.0
"""Exposure by rank and by skew-normal: closed forms, twins, coverage, the underflow trap."""

import math

import mpmath
import numpy as np
import pytest
from scipy.stats import norm, skewnorm

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.exposure import (
    ceiling,
    exposure,
    fewest_for_median,
    fit_skew_normal,
    log_skew_normal_cdf,
    median_places,
    own_places,
    rank_exposure,
    ranks,
    skew_normal_bits,
    skew_normal_exposure,
)


def test_ranks_count_ties_against_the_secret():
    reference = [1.0, 2.0, 2.0, 3.0]
    canary = np.array([0.0, 1.0, 2.0, 2.5, 9.0, -np.inf, np.inf])
    twin = [1 + sum(r <= c for r in reference) for c in canary]
    assert ranks(canary, reference).tolist() == twin == [1, 2, 4, 4, 5, 1, 5]


def test_rank_exposure_runs_from_0_to_the_ceiling():
    reference = np.arange(1023.0)
    np.testing.assert_allclose(rank_exposure([-1.0, 2000.0, 510.5], reference), [10.0, 0.0, 1.0])
    assert ceiling(1023) == 10.0


def test_exposure_ignores_monotone_maps():
    rng = np.random.default_rng(0)
    c, r = rng.normal(-1, 1, 9), rng.normal(size=300)
    assert exposure(np.exp(c), np.exp(r)) == exposure(c, r)


def test_one_unbeaten_secret():
    e = exposure([-1.0], np.arange(1023.0))
    assert (e.value, e.lo, e.hi, e.n, e.unit) == (10.0, 0.0, math.inf, 1, "bits")
    assert "1 secret cannot enclose the median over all so planted (6 can)" in e.method


def test_many_unbeaten_secrets_do_not_give_a_zero_width_interval():
    e = exposure(np.full(50, -1.0), np.arange(1023.0))
    assert e.lo < e.value == 10.0
    assert e.hi == math.inf


def test_a_secret_that_all_references_beat():
    e = exposure([1e9] * 8, np.arange(100.0))
    assert (e.value, e.lo) == (0.0, 0.0)
    assert 0 < e.hi < 0.1


def test_order_statistics_from_six_secrets_on():
    assert median_places(5, 0.95) is None
    assert own_places(5, 0.95) == (2, 2, pytest.approx(0.05), "median of these 5 secrets only")
    assert [fewest_for_median(confidence) for confidence in (0.9, 0.95, 0.99, 0.996)] == [5, 6, 8, 10]
    places = median_places(6, 0.95)
    assert places is not None
    assert (places.strongest, places.weakest) == (0, 5)
    assert places.miss == pytest.approx(0.05 - 2 / 64)
    assert "all" not in places.meaning


@pytest.mark.parametrize("n", [1, 3, 5, 6, 8, 10, 30])
def test_interval_covers_the_median_over_all_secrets_so_planted(n):
    """400 tiers of n secrets against 200 references; secrets and references Gaussian, so the true median is known."""
    rng = np.random.default_rng(n)
    truth = -math.log2(norm.cdf(-2.0))
    estimates = [exposure(rng.normal(-2, 0.7, n), rng.normal(size=200)) for _ in range(400)]
    assert np.mean([e.lo > truth or e.hi < truth for e in estimates]) <= 0.05
    assert all(e.lo <= e.value <= e.hi for e in estimates)
    assert all((e.lo, e.hi) == (0.0, math.inf) for e in estimates) == (n < 6)


@pytest.mark.parametrize("a", [-5.0, -1.0, 0.0, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("z", [-3.0, -8.0, -15.0, -40.0, -300.0])
def test_log_cdf_equals_quadrature_at_30_digits(a, z):
    with mpmath.workdps(30):
        steep = abs(z) * (1 + max(a, 0) ** 2)
        cuts = [k / steep for k in (0, 1, 3, 10, 30, 100, 300)]
        area = mpmath.quad(lambda s: mpmath.npdf(z - s) * mpmath.ncdf(a * (z - s)), cuts)
        want = float(mpmath.log(2 * area))
    assert log_skew_normal_cdf([z], a)[0] == pytest.approx(want, abs=1e-5, rel=1e-9)


def test_the_underflow_trap_is_mended():
    """Where scipy's cdf is 0 (and the published code reported 0 bits), the exposure is finite and large."""
    rng = np.random.default_rng(3)
    reference = skewnorm.rvs(4, loc=220, scale=20, size=2000, random_state=rng)
    fitted = fit_skew_normal(reference)
    assert skewnorm.cdf(1.0, *fitted) == 0.0
    far = skew_normal_bits([100.0, 20.0, 1.0], fitted)
    assert np.all(np.isfinite(far))
    assert 30 < far[0] < far[1] < far[2]
    e = skew_normal_exposure([1.0], reference, n_boot=20)
    assert 30 < e.lo < e.value < e.hi < math.inf


def test_fit_reaches_scipys_likelihood():
    for a, seed in ((3.0, 4), (-2.0, 5), (0.0, 6), (25.0, 7)):
        x = skewnorm.rvs(a, loc=5, scale=2, size=1500, random_state=np.random.default_rng(seed))
        ours, theirs = fit_skew_normal(x), skewnorm.fit(x)
        assert skewnorm.logpdf(x, *ours).sum() > skewnorm.logpdf(x, *theirs).sum() - 1e-3


def test_both_exposures_agree_inside_the_references():
    rng = np.random.default_rng(8)
    reference = skewnorm.rvs(2, loc=50, scale=10, size=4000, random_state=rng)
    canary = np.quantile(reference, [0.01, 0.1, 0.5])
    np.testing.assert_allclose(
        skew_normal_bits(canary, fit_skew_normal(reference)), rank_exposure(canary, reference), rtol=0.08
    )


def test_skew_normal_interval_covers():
    """24 reference sets and one fixed secret; with 5 % of misses, more than 5 would come once in 1,500 such tests."""
    rng = np.random.default_rng(9)
    truth = -math.log2(skewnorm.cdf(-1.0, 1.5))
    outside = 0
    for seed in range(24):
        reference = skewnorm.rvs(1.5, size=300, random_state=rng)
        e = skew_normal_exposure([-1.0], reference, n_boot=40, seed=seed)
        outside += not e.lo <= truth <= e.hi
    assert outside <= 5


def test_references_of_another_shape_are_refused_and_skew_normal_ones_hardly_ever():
    rng = np.random.default_rng(11)
    two_humps = np.concatenate([rng.normal(0, 1, 150), rng.normal(8, 1, 150)])
    with pytest.raises(BadInput, match="not spread like a skew-normal"):
        skew_normal_exposure([-1.0], two_humps, n_boot=2)
    for seed in range(40):  # at most 1 % of these are refused: all 40 pass with two chances in three, and here do
        right = skewnorm.rvs(3, size=200, random_state=np.random.default_rng(seed))
        assert skew_normal_exposure([-1.0], right, n_boot=2).value > 0


def test_refusals():
    with pytest.raises(Underpowered):
        skew_normal_exposure([1.0], np.arange(99.0))
    with pytest.raises(BadInput):
        skew_normal_exposure([1.0], np.full(200, 3.0))
    with pytest.raises(BadInput):
        skew_normal_exposure([1.0], [*np.arange(200.0), np.inf])
    with pytest.raises(BadInput):
        exposure([np.nan], np.arange(10.0))
    with pytest.raises(BadInput):
        exposure([], np.arange(10.0))
