# SPDX-License-Identifier: Apache-2.0
"""The smallest detectable effects against simulation of the very intervals they speak of."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from reticent.core.errors import Underpowered
from reticent.stats.power import auc_error, smallest_auc, smallest_tpr
from reticent.stats.roc import auc, tpr_at_fpr


@pytest.mark.parametrize(
    ("m", "n", "confidence"), [(20, 20, 0.95), (20, 200, 0.95), (200, 20, 0.95), (100, 100, 0.995), (1000, 1000, 0.95)]
)
def test_smallest_auc_is_seen_with_the_stated_power(m, n, confidence):
    """400 audits: power 0.8 within four binomial standard errors (2 % each)."""
    rng = np.random.default_rng(0)
    shift = norm.ppf(smallest_auc(m, n, confidence=confidence)) * math.sqrt(2)
    lows = [auc(rng.normal(shift, 1, m), rng.normal(0, 1, n), confidence=confidence).lo for _ in range(400)]
    assert np.mean(np.array(lows) > 0.5) == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize(("m", "n", "fpr"), [(100, 100, 0.1), (50, 1000, 0.01), (1000, 1000, 0.01)])
def test_smallest_tpr_is_seen_with_the_stated_power(m, n, fpr):
    """400 audits: power 0.8 within four binomial standard errors (2 % each)."""
    rng = np.random.default_rng(1)
    smallest = smallest_tpr(m, n, fpr)
    shift = norm.ppf(smallest) - norm.ppf(fpr)
    lows = [tpr_at_fpr(rng.normal(shift, 1, m), rng.normal(0, 1, n), fpr).lo for _ in range(400)]
    assert np.mean(np.array(lows) > fpr) == pytest.approx(0.8, abs=0.08)


def test_error_of_the_auc_in_closed_form():
    """At 0.5 the rank-sum variance; elsewhere the spread of 3,000 simulated AUCs (1.3 % standard error each)."""
    assert auc_error(0.5, 30, 50) == pytest.approx(math.sqrt(81 / (12 * 30 * 50)))
    rng = np.random.default_rng(2)
    shift = norm.ppf(0.85) * math.sqrt(2)
    x, y = rng.normal(shift, 1, (3000, 30)), rng.normal(0, 1, (3000, 20))
    spread = (x[:, :, None] > y[:, None, :]).mean(axis=(1, 2)).std()
    assert auc_error(0.85, 30, 20) == pytest.approx(spread, rel=0.06)


def test_more_units_see_less_and_more_attacks_need_more():
    assert smallest_auc(1000, 1000) < smallest_auc(100, 100) < smallest_auc(100, 100, confidence=0.999) < 1
    assert smallest_tpr(1000, 10_000, 0.01) < smallest_tpr(100, 1000, 0.01) < 1
    assert smallest_auc(100, 100, power=0.5) < smallest_auc(100, 100, power=0.9)


def test_too_few_units_to_see_anything():
    with pytest.raises(Underpowered, match="at least 6"):
        smallest_auc(5, 100)
    # exactly 6 suffice: 0.025^(1/6) > 0.5, and 5 do not
    assert 0.025 ** (1 / 6) > 0.5 > 0.025 ** (1 / 5)
    assert 0.5 < smallest_auc(6, 6) <= 1.0
    with pytest.raises(Underpowered, match="at least 1000"):
        smallest_tpr(100, 999, 0.01)
    with pytest.raises(Underpowered):
        smallest_tpr(1, 1000, 0.1)
