# SPDX-License-Identifier: Apache-2.0
"""LiRA against a slow twin, against theory, and against coins that have nothing to do with the scores."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from reticent.attacks.shadow.lira import edge_cases, lira
from reticent.attacks.shadow.lira_offline import lira_offline
from reticent.attacks.shadow_models import LEAST_SPREAD, SEPARATE, ShadowScores, logit


def phi(mean_logp):
    p = math.exp(min(mean_logp, -1e-7))
    return math.log(p) - math.log(1 - p)


def told(scores, row, side):
    pairs = zip(scores.shadows[row], scores.inside[row], strict=True)
    return [phi(value) for value, saw in pairs if saw == side]


def pooled(scores, side):
    """Standard deviation around each text's own mean, by the definition."""
    squares, degrees = 0.0, 0
    for row in range(len(scores)):
        values = told(scores, row, side)
        if len(values) > 1:
            squares += sum((value - statistics.fmean(values)) ** 2 for value in values)
            degrees += len(values) - 1
    return math.sqrt(squares / degrees) if degrees else None


def naive(scores):
    """``(online, offline)``, text by text."""
    shared = {side: pooled(scores, side) for side in (True, False)}
    distances = []
    for row in range(len(scores)):
        if (inside := told(scores, row, True)) and (outside := told(scores, row, False)):
            distances.append(statistics.fmean(inside) - statistics.fmean(outside))
    shift = statistics.fmean(distances) if distances else 0.0
    online, offline = [], []
    for row in range(len(scores)):
        own, values = phi(scores.target[row]), {side: told(scores, row, side) for side in (True, False)}
        mean = {side: statistics.fmean(values[side]) if values[side] else None for side in values}
        mean[True] = mean[False] + shift if mean[True] is None else mean[True]
        mean[False] = mean[True] - shift if mean[False] is None else mean[False]
        spread = {}
        for side in values:
            both = shared[side] if shared[side] is not None else shared[not side]
            spread[side] = statistics.stdev(values[side]) if len(values[side]) >= SEPARATE else (both or 0.0)
            spread[side] = max(spread[side], LEAST_SPREAD)
        density = {s: norm.logpdf(own, mean[s], spread[s]) for s in values}
        online.append(density[True] - density[False])
        offline.append((own - mean[False]) / spread[False])
    return np.array(online), np.array(offline)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.sampled_from([2, 4, 6, 8, 70]), st.integers(0, 999), st.sampled_from([0.2, 0.5, 0.8]))
def test_equals_a_loop_over_texts(made_up, texts, models, seed, share):
    scores = made_up(texts, models, seed, share=share)
    online, offline = naive(scores)
    np.testing.assert_allclose(lira(scores), online, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(lira_offline(scores), offline, rtol=1e-6, atol=1e-6)


def gaussian(texts, models, gap, spread, seed):
    """Texts whose confidence is Gaussian over models, a distance apart; half of the texts were in the target."""
    rng = np.random.default_rng(seed)
    level = rng.normal(-2, 2, texts)
    inside = rng.permuted(np.tile(np.arange(models) % 2 == 0, (texts, 1)), axis=1)
    member = np.arange(texts) < texts // 2
    shadows = level[:, None] + gap * inside + rng.normal(0, spread, inside.shape)
    target = level + gap * member + rng.normal(0, spread, texts)
    scores = ShadowScores(target=-np.log1p(np.exp(-target)), shadows=-np.log1p(np.exp(-shadows)), inside=inside)
    return scores, member


def auc(score, member):
    ranks = np.argsort(np.argsort(score)) + 1
    inside = member.sum()
    return (ranks[member].sum() - inside * (inside + 1) / 2) / (inside * (~member).sum())


@pytest.mark.parametrize("attack", [lira, lira_offline])
def test_the_roc_is_that_of_two_gaussians(attack):
    """Of two Gaussians a distance ``d`` standard deviations apart the best test has the area Phi(d / sqrt 2) and finds
    Phi(d + Phi^-1(alpha)) of the members. Means over 30 models a side move the area by less than 0.01."""
    gap, spread = 1.5, 1.0
    scores, member = gaussian(12_000, 60, gap, spread, seed=1)
    found = attack(scores)
    assert auc(found, member) == pytest.approx(norm.cdf(gap / spread / math.sqrt(2)), abs=0.015)
    for alpha in (0.1, 0.01):
        threshold = np.quantile(found[~member], 1 - alpha)
        expected = norm.cdf(gap / spread + norm.ppf(alpha))
        assert (found[member] > threshold).mean() == pytest.approx(expected, abs=0.03)


def test_more_models_find_more_and_a_spread_of_ones_own_is_taken_from_32_a_side():
    areas = []
    for models in (4, 16, 62):
        scores, member = gaussian(6000, models, 1.0, 1.0, seed=2)
        areas.append(auc(lira(scores), member))
        spread, _ = scores.spreads(logit)
        assert np.ptp(spread) == 0
    assert areas[0] < areas[1] < areas[2]
    scores, _ = gaussian(50, 64, 1.0, 1.0, seed=2)
    assert np.ptp(scores.spreads(logit)[0]) > 0


@pytest.mark.parametrize("attack", [lira, lira_offline])
def test_coins_that_have_nothing_to_do_with_the_scores_give_chance(attack):
    """Of 4000 texts the area lies within 0.5 ± 0.03 (three standard errors: sqrt(1/12 · 2/2000) = 0.009)."""
    scores, _ = gaussian(4000, 8, 1.0, 1.0, seed=3)
    member = np.random.default_rng(4).random(4000) < 0.5
    assert abs(auc(attack(scores), member) - 0.5) < 0.03


def test_a_text_that_a_model_is_certain_of_has_a_finite_score(made_up):
    scores = made_up(6, 8, 0)
    certain = ShadowScores(target=np.zeros(6), shadows=np.zeros((6, 8)), inside=scores.inside)
    assert np.isfinite(lira(certain)).all()
    assert np.isfinite(lira_offline(certain)).all()
    assert np.isfinite(logit(np.array([0.0, -1e-12, -1e3]))).all()


def test_texts_in_all_models_or_in_none_are_counted_and_put_at_the_usual_distance(made_up):
    scores = made_up(40, 6, 5)
    scores.inside[0], scores.inside[1] = True, False
    assert sum(edge_cases(scores).values()) == int((scores.inside.all(axis=1) | ~scores.inside.any(axis=1)).sum())
    inside, outside = scores.means()
    usual = (inside - outside)[~scores.one_sided].mean()
    np.testing.assert_allclose((inside - outside)[:2], usual)
    assert np.isfinite(lira(scores)).all()


def test_what_is_taken_from_all_texts_stays_where_few_are_looked_at(made_up):
    scores = made_up(30, 6, 6, share=0.3)
    rows = np.array([3, 17])
    np.testing.assert_array_equal(lira(scores)[rows], lira(scores.take(rows)))
    np.testing.assert_array_equal(lira(scores)[rows], lira(scores.take(np.arange(20)).take(rows)))


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        ShadowScores(target=np.zeros(3), shadows=np.zeros((2, 4)), inside=np.zeros((2, 4), bool))
