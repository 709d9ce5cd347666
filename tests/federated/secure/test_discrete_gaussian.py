# SPDX-License-Identifier: Apache-2.0
"""The sampler beside the probabilities of the definition, and beside the paper's algorithms one number at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chi2

from reticent.core.errors import BadInput
from reticent.federated.secure.discrete_gaussian import (
    LARGEST_VARIANCE,
    discrete_gaussian,
    discrete_laplace,
    exponential_coins,
)
from reticent.federated.secure.random_bits import RandomBits

LEVEL = 1e-4
"""Chance of each test to fail for a right sampler, had the keys not been fixed."""


def bits(name):
    return RandomBits(b"s" * 32, name)


def departure(drawn, weight, reach):
    """p by Pearson's χ² of samples against the law with these weights, in cells of at least 10 expected."""
    support = np.arange(-reach, reach + 1)
    chances = weight(support) / weight(np.arange(-40 * reach, 40 * reach + 1)).sum()
    expected = chances * len(drawn)
    kept = expected >= 10
    counts = np.array([(drawn == x).sum() for x in support])
    rest = len(drawn) - expected[kept].sum()
    statistic = ((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum()
    if rest > 5:
        statistic += (len(drawn) - counts[kept].sum() - rest) ** 2 / rest
    return chi2.sf(statistic, int(kept.sum()) - (rest <= 5))


@pytest.mark.parametrize("variance", [1, 2, 7, 30])
def test_samples_have_the_probabilities_of_the_definition(variance):
    drawn = discrete_gaussian(bits(f"gaussian {variance}"), variance, 40_000)
    assert len(drawn) == 40_000
    reach = 6 * int(np.ceil(variance**0.5))
    assert departure(drawn, lambda x: np.exp(-(x**2) / (2 * variance)), reach) > LEVEL
    # A normal, rounded, is another law, and is told apart where a step is not small.
    if variance == 1:
        rounded = np.rint(np.random.default_rng(0).normal(scale=1.0, size=40_000)).astype(int)
        assert departure(rounded, lambda x: np.exp(-(x**2) / 2), reach) < LEVEL


def test_the_laplace_proposals_have_theirs():
    drawn = discrete_laplace(bits("laplace"), 3, 60_000)
    assert departure(drawn, lambda x: np.exp(-np.abs(x) / 3), 15) > LEVEL


@pytest.mark.parametrize(("above", "below"), [(0, 1), (1, 3), (1, 1), (5, 2), (7, 1)])
def test_coins_of_exponentials(above, below):
    heads = exponential_coins(bits(f"coins {above} {below}"), np.full(50_000, above, dtype=np.int64), below).mean()
    chance = np.exp(-above / below)
    assert abs(heads - chance) <= 4 * np.sqrt(chance * (1 - chance) / 50_000)


def test_large_variances_keep_their_moments():
    variance = 3_000_000
    drawn = discrete_gaussian(bits("large"), variance, 20_000).astype(float)
    assert abs(drawn.mean()) < 4 * np.sqrt(variance / 20_000)
    assert abs(drawn.var() / variance - 1) < 4 * np.sqrt(2 / 20_000)
    biggest = discrete_gaussian(bits("largest"), LARGEST_VARIANCE, 2_000).astype(float)
    assert abs(biggest.var() / LARGEST_VARIANCE - 1) < 4 * np.sqrt(2 / 2_000)


def test_the_same_key_gives_the_same_noise_and_another_place_other_noise():
    one = discrete_gaussian(RandomBits(b"s" * 32, "noise", 1), 50, 100)
    np.testing.assert_array_equal(one, discrete_gaussian(RandomBits(b"s" * 32, "noise", 1), 50, 100))
    assert (one != discrete_gaussian(RandomBits(b"s" * 32, "noise", 2), 50, 100)).mean() > 0.8


def test_variances_out_of_range_are_refused():
    for variance in (0, LARGEST_VARIANCE + 1):
        with pytest.raises(BadInput):
            discrete_gaussian(bits("refused"), variance, 1)
    assert len(discrete_gaussian(bits("none"), 1, 0)) == 0


# ---- the paper's algorithms, one number at a time ----


def naive_coin(source, gamma):
    """Algorithm 1, with fractions."""
    while gamma > 1:
        if not naive_coin(source, Fraction(1)):
            return False
        gamma -= 1
    k = 1
    while source.below((gamma / k).denominator, 1)[0] < (gamma / k).numerator:
        k += 1
    return k % 2 == 1


def naive_laplace(source, scale):
    """Algorithm 2."""
    while True:
        rest = int(source.below(scale, 1)[0])
        if not naive_coin(source, Fraction(rest, scale)):
            continue
        runs = 0
        while naive_coin(source, Fraction(1)):
            runs += 1
        size, negative = rest + scale * runs, bool(source.below(2, 1)[0])
        if not (negative and size == 0):
            return -size if negative else size


def naive_gaussian(source, variance):
    """Algorithm 3."""
    scale = int(variance**0.5) + 1
    while True:
        proposed = naive_laplace(source, scale)
        if naive_coin(source, (abs(proposed) - Fraction(variance, scale)) ** 2 / (2 * variance)):
            return proposed


def test_the_naive_twin_has_the_same_law():
    source = bits("naive")
    drawn = np.array([naive_gaussian(source, 3) for _ in range(1_500)])
    fast = discrete_gaussian(bits("fast"), 3, 40_000)
    values = range(-4, 5)
    for x in values:
        chance = (fast == x).mean()
        assert abs((drawn == x).mean() - chance) <= 4.5 * np.sqrt(chance * (1 - chance) / 1_500)
