# SPDX-License-Identifier: Apache-2.0
"""AUC, TPR at FPR and ROC curves: closed forms, slow twins, coverage by simulation, ties and infinities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.roc import auc, placements, roc_curve, thin, tpr_at_fpr

tied = st.lists(st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, np.inf]), min_size=2, max_size=25)


def wins(member, held_out):
    """Twin: 1, 1/2 or 0 for each pair."""
    return np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in held_out] for a in member])


def delong_naive(member, held_out):
    """Twin: AUC and DeLong's variance from the O(n²) placement values."""
    w = wins(member, held_out)
    rows, columns = w.mean(axis=1), w.mean(axis=0)
    return w.mean(), rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)


def missed(estimates, truth, *, nominal=0.05):
    """Share of intervals that miss, and four binomial standard errors of the nominal share."""
    share = np.mean([e.lo > truth or e.hi < truth for e in estimates])
    return share, 4 * math.sqrt(nominal * (1 - nominal) / len(estimates))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(tied, tied)
def test_placements_give_delongs_auc_and_variance(member, held_out):
    x, y = np.array(member), np.array(held_out)
    placed = placements(x, y)
    w = wins(member, held_out)
    np.testing.assert_allclose(placed.member, w.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(placed.held_out, w.mean(axis=0), atol=1e-12)
    value, _ = delong_naive(member, held_out)
    estimate = auc(x, y)
    assert estimate.value == pytest.approx(value, abs=1e-12)
    assert 0 <= estimate.lo <= estimate.value <= estimate.hi <= 1
    assert estimate.lo < estimate.hi


def test_auc_interval_is_delong_on_the_logit_scale():
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    value, variance = delong_naive(x, y)
    half = norm.ppf(0.975) * math.sqrt(variance) / (value * (1 - value))
    e = auc(x, y)
    logit = math.log(value / (1 - value))
    # Student's t with ~640 degrees of freedom is 0.2 % wider than the normal quantile
    assert math.log(e.lo / (1 - e.lo)) == pytest.approx(logit - half, abs=0.003 * half)
    assert math.log(e.hi / (1 - e.hi)) == pytest.approx(logit + half, abs=0.003 * half)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(tied, tied)
def test_monotone_maps_change_nothing_and_swapping_mirrors(member, held_out):
    x, y = np.array(member), np.array(held_out)
    e = auc(x, y)
    assert auc(np.arctan(x) * 3 + 1, np.arctan(y) * 3 + 1) == e
    swapped = auc(y, x)
    assert swapped.value == pytest.approx(1 - e.value, abs=1e-12)
    assert (swapped.lo, swapped.hi) == pytest.approx((1 - e.hi, 1 - e.lo), abs=1e-9)


@pytest.mark.parametrize(("true_auc", "m", "n"), [(0.5, 15, 15), (0.5, 200, 60), (0.8, 40, 40), (0.95, 100, 100)])
def test_auc_interval_covers(true_auc, m, n):
    """800 audits of Gaussian scores; asymptotic, so twice four standard errors (0.77 % each) below 95 % is refused."""
    rng = np.random.default_rng(1)
    shift = norm.ppf(true_auc) * math.sqrt(2)
    estimates = [auc(rng.normal(shift, 1, m), rng.normal(0, 1, n)) for _ in range(800)]
    share, tolerance = missed(estimates, true_auc)
    assert share < 0.05 + tolerance
    assert share > 0.005  # neither is it absurdly wide


def test_perfect_separation_still_has_an_interval():
    """All of k disjoint pairs won: the bound is where winning k of k has probability alpha / 2."""
    e = auc(np.arange(10, 20), np.arange(5))
    assert (e.value, e.hi) == (1.0, 1.0)
    assert e.lo == pytest.approx(0.025 ** (1 / 5))
    assert "disjoint pairs" in e.method
    mirrored = auc(np.arange(5), np.arange(10, 20))
    assert (mirrored.value, mirrored.lo) == (0.0, 0.0)
    assert mirrored.hi == pytest.approx(1 - 0.025 ** (1 / 5))


def test_constant_scores_say_nothing_and_say_so():
    e = auc(np.zeros(50), np.zeros(50))
    assert e.value == 0.5
    assert e.hi - e.lo == pytest.approx(2 * math.sqrt(math.log(40) / 100))
    assert "Hoeffding" in e.method


def test_circular_roc_has_area_pi_over_4():
    """TPR = sqrt(1 - (1 - FPR)²): scores uniform on held-out, and member scores by inversion."""
    rng = np.random.default_rng(0)
    held_out = rng.random(20_000)
    member = 1 - (1 - np.sqrt(1 - rng.random(20_000) ** 2))
    e = auc(member, held_out)
    assert e.lo < math.pi / 4 < e.hi
    assert e.hi - e.lo < 0.012
    at = tpr_at_fpr(member, held_out, 0.1)
    assert at.lo < math.sqrt(1 - 0.9**2) < at.hi


def tpr_naive(member, held_out, fpr):
    """Twin: best TPR over all thresholds that at most a share fpr of held-out pass strictly."""
    best = 0.0
    for t in [-math.inf, *held_out, *member]:
        if np.mean(np.array(held_out) > t) <= fpr + 1e-12 and not (t == -math.inf and fpr < 1):
            best = max(best, float(np.mean(np.array(member) > t)))
    return best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=20), st.lists(st.integers(0, 6), min_size=40, max_size=60))
def test_tpr_at_fpr_never_exceeds_the_asked_fpr_and_is_the_best_such_threshold(member, held_out):
    for fpr in (0.25, 0.5):
        e = tpr_at_fpr(member, held_out, fpr)
        assert e.value == pytest.approx(tpr_naive(member, held_out, fpr))
        assert e.lo <= e.value <= e.hi


@pytest.mark.parametrize(("m", "n", "fpr", "shift"), [(100, 100, 0.1, 1.5), (300, 1000, 0.01, 2.0)])
def test_tpr_interval_covers_the_population_tpr(m, n, fpr, shift):
    """600 audits. The guarantee is <= 5 % misses; the Bonferroni bound in fact misses below 1.5 %."""
    rng = np.random.default_rng(2)
    truth = norm.sf(norm.isf(fpr) - shift)
    estimates = [tpr_at_fpr(rng.normal(shift, 1, m), rng.normal(0, 1, n), fpr) for _ in range(600)]
    share, _ = missed(estimates, truth)
    assert share < 0.015
    assert np.mean([e.value for e in estimates]) == pytest.approx(truth, abs=0.03)


def test_tpr_interval_covers_with_heavy_ties():
    """Scores on 12 levels: the population threshold is a level, the TPR at it is known. 600 audits."""
    rng = np.random.default_rng(3)
    truth = np.mean(np.arange(3, 15) > 10)  # held-out are uniform on 0..11, P(> 10) = 1/12 <= 0.1 < P(> 9)
    estimates = [tpr_at_fpr(rng.integers(3, 15, 100), rng.integers(0, 12, 150), 0.1) for _ in range(600)]
    share, _ = missed(estimates, truth)
    assert share < 0.05


def test_null_model_is_rarely_called_leaky():
    """Same distribution for both: the lower end exceeds the FPR in at most 2.5 % of 600 audits (guaranteed)."""
    rng = np.random.default_rng(4)
    lows = [tpr_at_fpr(rng.normal(size=200), rng.normal(size=200), 0.1).lo for _ in range(600)]
    assert np.mean(np.array(lows) > 0.1) <= 0.025


def test_too_few_held_out_is_refused_with_the_number_needed():
    with pytest.raises(Underpowered, match="at least 1000"):
        tpr_at_fpr(np.arange(50), np.arange(999), 0.01)
    assert tpr_at_fpr(np.arange(50), np.arange(1000), 0.01).n == 1050


def test_infinite_scores_are_ranks():
    x, y = np.array([np.inf, 3.0, -np.inf, 2.0] * 30), np.array([1.0, 0.0, -np.inf, 2.5] * 30)
    as_numbers = [np.where(np.isinf(v), np.sign(v) * 100, v) for v in (x, y)]
    assert auc(x, y) == auc(*as_numbers)
    assert tpr_at_fpr(x, y, 0.1) == tpr_at_fpr(*as_numbers, 0.1)
    for a, b in zip(roc_curve(x, y), roc_curve(*as_numbers), strict=True):
        np.testing.assert_array_equal(a, b)
    everywhere = np.full(100, np.inf)
    assert tpr_at_fpr(everywhere, everywhere, 0.1).value == 0.0


@pytest.mark.parametrize(
    ("member", "held_out"), [([1.0, np.nan], [0.0, 1.0]), ([], [1.0]), ([1.0], []), ([[1.0, 2.0]], [1.0])]
)
def test_bad_scores_are_refused(member, held_out):
    for statistic in (auc, roc_curve, lambda a, b: tpr_at_fpr(a, b, 0.5)):
        with pytest.raises(BadInput):
            statistic(member, held_out)


def test_one_unit_in_a_group_is_refused():
    with pytest.raises(Underpowered):
        auc([1.0], [0.0, 2.0, 3.0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tied, tied)
def test_roc_curve_runs_from_0_to_1_and_its_area_is_the_auc(member, held_out):
    fpr, tpr = roc_curve(member, held_out)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(fpr) >= 0)
    assert np.all(np.diff(tpr) >= 0)
    assert np.trapezoid(tpr, fpr) == pytest.approx(wins(member, held_out).mean(), abs=1e-12)


def test_thinning_a_short_curve_loses_nothing():
    curve = roc_curve(np.repeat([3, 2], 200) + np.linspace(0, 0.1, 400), [0, 1, 2.5])
    short = thin(*curve)
    assert len(short.fpr) < 10 < len(curve.fpr)
    grid = np.linspace(0, 1, 501)
    # between steps both polylines agree; at the steps themselves interpolation is ambiguous
    inside = ~np.isin(np.round(grid, 9), np.round(curve.fpr, 9))
    np.testing.assert_allclose(np.interp(grid, *short)[inside], np.interp(grid, *curve)[inside], atol=1e-12)


def test_thinning_keeps_the_low_fpr_end():
    rng = np.random.default_rng(0)
    curve = roc_curve(rng.normal(1, 1, 30_000), rng.normal(0, 1, 30_000))
    short = thin(*curve, points=200)
    assert len(short.fpr) <= 200
    assert (short.fpr[0], short.tpr[0], short.fpr[-1], short.tpr[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(short.fpr) >= 0)
    assert np.all(np.diff(short.tpr) >= 0)
    low = np.geomspace(1 / 30_000, 1, 50)
    assert np.abs(np.log10(np.interp(low, *short)) - np.log10(np.interp(low, *curve))).max() < 0.05
    assert np.trapezoid(short.tpr, short.fpr) == pytest.approx(np.trapezoid(curve.tpr, curve.fpr), abs=0.002)
    assert set(zip(short.fpr, short.tpr, strict=True)) <= set(zip(curve.fpr, curve.tpr, strict=True))
