# SPDX-License-Identifier: Apache-2.0
"""ε from the AUC: by hand, both forms, how often it is too high on several kinds of scores, and that it is sharper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.epsilon import epsilon_gdp_one_run, epsilon_gdp_roc, gdp_epsilon
from reticent.stats.epsilon_auc import STRICTER, epsilon_gdp_auc
from reticent.stats.one_run import guesses_a_side
from reticent.stats.roc import auc


def test_both_forms_by_hand() -> None:
    rng = np.random.default_rng(0)
    member, held_out = rng.normal(1.5, 1, 90), rng.normal(size=110)
    lo = auc(member, held_out, confidence=1 - 2 * STRICTER * 0.05).lo
    pairs = epsilon_gdp_auc(member, held_out, delta=1e-5, unit="user", pairs=True)
    assert pairs.value == pytest.approx(gdp_epsilon(norm.ppf(lo), 1e-5))
    free = epsilon_gdp_auc(member, held_out, delta=1e-5, unit="user")
    mu = math.sqrt(2) * norm.ppf(lo)
    # of 110 held-out units the step from "others" to "the same unit left out" costs little
    assert gdp_epsilon(0.97 * mu, 1e-5) < free.value < gdp_epsilon(mu, 1e-5)
    assert free.value > pairs.value > 1
    assert "assuming Gaussian DP" in free.method
    assert "two units may share" in pairs.method
    assert (free.lo, free.hi, free.n, free.confidence) == (free.value, math.inf, 200, 0.95)
    assert free.unit == "nats (δ = 1e-05, one user added or removed)"


def test_chance_and_worse_show_nothing() -> None:
    rng = np.random.default_rng(1)
    for shift in (0.0, -2.0):
        member, held_out = rng.normal(shift, 1, 60), rng.normal(size=60)
        assert epsilon_gdp_auc(member, held_out, delta=1e-5, unit="record").value == 0.0
    assert epsilon_gdp_auc(np.zeros(60), np.zeros(60), delta=1e-5, unit="record").value == 0.0


def gaussian(rng: np.random.Generator, coin: np.ndarray, mu: float) -> np.ndarray:
    return rng.normal(mu * coin)


def one_bit(rng: np.random.Generator, coin: np.ndarray, mu: float) -> np.ndarray:
    """Only on which side of the middle the Gaussian lies."""
    return (rng.normal(mu * coin) > mu / 2).astype(float)


def few(rng: np.random.Generator, coin: np.ndarray, mu: float) -> np.ndarray:
    """Only every fifth unit is exposed, as far as the mechanism allows."""
    return np.where(np.arange(len(coin)) % 5 == 0, rng.normal(mu * coin), rng.normal(size=len(coin)))


@pytest.mark.parametrize("units", [60, 300])
@pytest.mark.parametrize("mu", [0.5, 2.0])
@pytest.mark.parametrize("scores", [gaussian, one_bit, few])
def test_above_the_truth_no_more_often_than_stated(scores, mu: float, units: int) -> None:
    """300 audits: 5 % and three binomial standard errors."""
    rng = np.random.default_rng(7)
    truth, too_high = gdp_epsilon(mu, 1e-5), 0
    for _ in range(300):
        coin = rng.random(units) < 0.5
        score = scores(rng, coin, mu)
        too_high += epsilon_gdp_auc(score[coin], score[~coin], delta=1e-5, unit="record").value > truth
    assert too_high <= 300 * (0.05 + 3 * 0.0126)


def test_units_that_cancel_each_other_in_pairs_do_not_lift_the_careful_bound() -> None:
    """Two units pull one Gaussian in opposite directions: their order is right with Φ(μ), more than Φ(μ/√2)."""
    rng = np.random.default_rng(8)
    mu, truth, too_high = 1.0, gdp_epsilon(1.0, 1e-5), 0
    for _ in range(200):
        coin = rng.random(200) < 0.5
        shared = rng.normal(mu * (coin[::2].astype(float) - coin[1::2]))
        score = np.empty(200)
        score[::2], score[1::2] = shared, -shared
        too_high += epsilon_gdp_auc(score[coin], score[~coin], delta=1e-5, unit="record", pairs=True).value > truth
    assert too_high <= 10


def test_it_is_sharper_than_what_looks_at_extreme_scores_only() -> None:
    rng = np.random.default_rng(9)
    about = {"delta": 1e-5, "unit": "record"}
    rows = []
    for _ in range(20):
        coin = rng.random(500) < 0.5
        score = rng.normal(1.0 * coin)
        k = guesses_a_side(500)
        rows.append(
            [
                epsilon_gdp_auc(score[coin], score[~coin], **about).value,
                epsilon_gdp_roc(score[coin], score[~coin], **about).value,
                epsilon_gdp_one_run(score[coin], score[~coin], k_plus=k, k_minus=k, **about).value,
            ]
        )
    by_auc, by_roc, one_run = np.median(rows, axis=0)
    assert by_auc > 1.4 * max(by_roc, one_run)


def test_refusals() -> None:
    x = np.arange(9.0)
    for bad in ({"delta": 0.0}, {"delta": 1.0}, {"unit": "token"}, {"confidence": 0.0}):
        with pytest.raises(BadInput):
            epsilon_gdp_auc(x, x, **({"delta": 1e-5, "unit": "record"} | bad))
    with pytest.raises(Underpowered):
        epsilon_gdp_auc([1.0], x, delta=1e-5, unit="record")
    with pytest.raises(BadInput):
        epsilon_gdp_auc([math.nan, 1.0], x, delta=1e-5, unit="record")
