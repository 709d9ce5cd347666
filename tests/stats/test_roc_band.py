# SPDX-License-Identifier: Apache-2.0
"""The band holds the whole true curve as often as it says, for independent units and for users' records."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from reticent.stats.roc import roc_curve
from reticent.stats.roc_band import roc_band
from reticent.stats.simultaneous import sides

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

DRAWS = 120
FINE = np.linspace(0.001, 0.999, 500)


@pytest.mark.parametrize(("users", "each", "likeness"), [(0, 150, 0.0), (40, 10, 0.6)])
def test_the_true_curve_lies_within_it_everywhere(users: int, each: int, likeness: float) -> None:
    """Between the places of the grid by monotony. Of a right band this fails once in 10,000."""
    held = 0
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        owner = np.repeat(np.arange(users or 2 * each), each if users else 1)
        shared = rng.normal(size=owner.max() + 1)[owner] if users else 0.0
        member = rng.random(len(owner)) < 0.5
        noise = np.sqrt(likeness) * shared + np.sqrt(1 - likeness) * rng.normal(size=len(owner))
        found = roc_band(noise + 0.8 * member, sides(member, owner.astype(str).astype(object)), seed=draw)
        assert found is not None
        true = _curve(FINE, 0.8)
        before = np.searchsorted(found.fpr, FINE, side="right") - 1
        after = np.searchsorted(found.fpr, FINE, side="left")
        lo = np.where(before >= 0, np.array(found.lo)[before], 0.0)
        hi = np.where(after < len(found.fpr), np.append(found.hi, 1.0)[after], 1.0)
        held += bool(((lo <= true) & (true <= hi)).all())
    assert held >= binom.ppf(1e-4, DRAWS, 0.95)


def test_it_rises_and_holds_the_curve_that_was_seen() -> None:
    rng = np.random.default_rng(1)
    member = np.arange(500) < 250
    score = rng.normal(size=500) + member
    band = roc_band(score, sides(member, None))
    assert band is not None
    fpr, tpr = roc_curve(score[member], score[~member])
    seen = np.array([tpr[fpr <= at + 1e-9].max() for at in band.fpr])
    assert (np.diff(band.lo) >= 0).all()
    assert (np.diff(band.hi) >= 0).all()
    assert (np.array(band.lo) <= seen + 1e-9).all()
    assert (seen <= np.array(band.hi) + 1e-9).all()


def test_one_owner_or_too_few_held_out_have_none() -> None:
    member = np.arange(40) < 20
    rng = np.random.default_rng(0)
    few = np.arange(30) < 12
    assert roc_band(rng.normal(size=30), sides(few, None)) is None
    assert roc_band(rng.normal(size=40), sides(member, np.where(member, "a", "b").astype(object))) is None


def _curve(fpr: np.ndarray, distance: float) -> np.ndarray:
    return ndtr(distance + ndtri(fpr))


def test_two_users_on_a_side_have_a_wide_one() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(80) < 40
    owner = np.repeat(["a", "b", "c", "d"], 20).astype(object)
    band = roc_band(rng.normal(size=80), sides(member, owner))
    assert band is not None
    assert min(hi - lo for lo, hi in zip(band.lo, band.hi, strict=True)) > 0.5
