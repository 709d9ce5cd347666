# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from reticent.stats.seed_variance import SeedSpread, over_seeds, seed_spread

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""


def draws(rng: np.random.Generator, value: float, error: float, n: int = 400) -> np.ndarray:
    return np.concatenate([[value], rng.normal(value, error, n)])


def test_closed_form_of_the_two_half_widths() -> None:
    resampled = np.array([1.0, 0.9, 1.1])
    found = over_seeds(resampled, [SeedSpread(0.04, 3)], clusters=21, n=100)
    records = student.ppf(0.975, 20) * math.sqrt(0.02)
    seeds = student.ppf(0.975, 3) * 0.2
    assert found.value == 1.0
    assert found.hi - found.value == pytest.approx(math.hypot(records, seeds))
    assert "records and seeds" in found.method


def test_spread_of_two_seeds_is_pooled_with_like_trainings_and_never_below_its_own() -> None:
    assert seed_spread([1.0, 3.0]) == SeedSpread(1.0, 1)
    assert seed_spread([1.0, 3.0], [[2.0, 2.0], [5.0, 5.0]]) == SeedSpread(1.0, 3)
    assert seed_spread([2.0, 2.0], [[1.0, 3.0]]) == SeedSpread(0.5, 2)
    assert seed_spread([2.0]) == SeedSpread(0.0, 0.0)
    assert seed_spread([2.0], [[1.0, 3.0]]) == SeedSpread(0.0, 0.0)


def test_one_seed_is_said_to_be_one_seed() -> None:
    found = over_seeds(np.array([0.5, 0.4, 0.6]), [seed_spread([0.5])], clusters=30, n=100)
    assert "one seed" in found.method


def test_a_share_stays_within_its_bounds_and_never_loses_its_interval() -> None:
    rng = np.random.default_rng(0)
    high = over_seeds(np.clip(draws(rng, 0.99, 0.02), 0, 1), [seed_spread([0.98, 1.0])], clusters=40, n=80, share=True)
    assert 0 < high.lo < high.value < high.hi < 1
    sure = over_seeds(np.ones(50), [], clusters=40, n=80, share=True)
    assert 0.8 < sure.lo < 1 == sure.hi
    assert "bound over 40 units" in sure.method


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 3.0, 10.0])
def test_the_interval_covers_at_least_as_often_as_it_says(seeds: int, ratio: float) -> None:
    """4,000 trials; a true coverage of 95 % would fall below 93.8 % once in 4,000 runs."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(4000):
        truth = rng.normal(0, 1)
        own = truth + rng.normal(0, math.sqrt(ratio * seeds), seeds)
        error = math.sqrt(rng.chisquare(59) / 59)
        resampled = np.concatenate([[own.mean()], own.mean() + error * np.array([-1.0, 1.0]) / math.sqrt(2)])
        found = over_seeds(resampled, [seed_spread(own)], clusters=60, n=60)
        covered += found.lo <= 0 <= found.hi
    assert covered / 4000 > 0.938
