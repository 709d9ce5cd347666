# SPDX-License-Identifier: Apache-2.0
"""Memorization over several runs against loops, a known effect, scipy's Welch, and Gaussians in closed form."""

import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.memorization import CLIP, counterfactual_memorization, lira_memorization


def runs(rng, count, n, effect, *, noise=0.1):
    """Losses of runs that each train on a random half; being in lowers a record's loss by its ``effect``."""
    member = rng.random((count, n)) < 0.5
    return rng.normal(3, 1, n) - effect * member + noise * rng.standard_normal((count, n)), member


def test_it_equals_loops_and_scipys_welch():
    rng = np.random.default_rng(0)
    nll, member = runs(rng, 12, 40, rng.exponential(1, 40))
    found = counterfactual_memorization(nll, member)
    for i in range(40):
        inside = [nll[r, i] for r in range(12) if member[r, i]]
        outside = [nll[r, i] for r in range(12) if not member[r, i]]
        assert (found.runs_in[i], found.runs_out[i]) == (len(inside), len(outside))
        assert found.value[i] == pytest.approx(np.mean(outside) - np.mean(inside))
        if min(len(inside), len(outside)) > 1:
            welch = ttest_ind(outside, inside, equal_var=False)
            assert found.value[i] / found.error[i] == pytest.approx(welch.statistic)


def test_it_finds_the_effect():
    rng = np.random.default_rng(1)
    effect = rng.exponential(1, 300)
    found = counterfactual_memorization(*runs(rng, 16, 300, effect))
    assert np.corrcoef(found.value, effect)[0, 1] > 0.99
    assert (np.abs(found.value - effect) < 4 * found.error).mean() > 0.97


def test_sides_without_runs_have_no_value():
    member = np.array([[True, True, False, True], [True, False, False, False], [True, True, False, False]])
    found = counterfactual_memorization(np.arange(12.0).reshape(3, 4), member)
    assert np.isnan(found.value).tolist() == [True, False, True, False]
    assert np.isnan(found.error).all()
    assert found.value[1] == pytest.approx(5 - (1 + 9) / 2)


def test_ratio_of_gaussians_in_closed_form():
    """20 runs a side, so each record has its own spreads; Gaussian densities by scipy."""
    rng = np.random.default_rng(2)
    nll, member = runs(rng, 41, 25, 1.0, noise=0.5)
    member[:20], member[20:] = True, False
    target = rng.normal(3, 1, 25)
    inside, outside = nll[:20], nll[20:]
    exact = norm.logpdf(target, inside.mean(0), inside.std(0, ddof=1))
    exact = exact - norm.logpdf(target, outside.mean(0), outside.std(0, ddof=1))
    np.testing.assert_allclose(lira_memorization(target, nll, member), np.clip(exact, -CLIP, CLIP))


def test_few_runs_share_one_spread():
    """Three runs a side: pooled standard deviations, by loops."""
    rng = np.random.default_rng(3)
    nll = rng.normal(size=(6, 30))
    member = np.repeat([[True], [False]], 3, axis=0) & np.ones((6, 30), dtype=bool)
    target = rng.normal(size=30)
    spread = [math.sqrt(np.mean([side[:, i].var(ddof=1) for i in range(30)])) for side in (nll[:3], nll[3:])]
    exact = norm.logpdf(target, nll[:3].mean(0), spread[0]) - norm.logpdf(target, nll[3:].mean(0), spread[1])
    np.testing.assert_allclose(lira_memorization(target, nll, member), exact)


def test_the_memorized_stand_out():
    rng = np.random.default_rng(4)
    effect = np.where(np.arange(200) < 20, 2.0, 0.05)
    nll, member = runs(rng, 17, 200, effect, noise=0.3)
    target = nll[16] + effect * member[16] - effect  # a model that was trained on all of them
    found = lira_memorization(target, nll[:16], member[:16])
    assert np.median(found[:20]) > np.quantile(found[20:], 0.95)
    assert (np.abs(found) <= CLIP).all()


def test_what_cannot_be_told_is_refused():
    member = np.ones((3, 4), dtype=bool)
    with pytest.raises(Underpowered, match="Use other split seeds"):
        counterfactual_memorization(np.zeros((3, 4)), member)
    with pytest.raises(Underpowered, match="2 runs with it"):
        lira_memorization(np.zeros(4), np.zeros((2, 4)), [[True] * 4, [False] * 4])
    with pytest.raises(BadInput, match="do not fit"):
        counterfactual_memorization(np.zeros((3, 4)), member[:2])
    with pytest.raises(BadInput, match="not finite"):
        counterfactual_memorization(np.full((3, 4), np.nan), member)
