# SPDX-License-Identifier: Apache-2.0
"""leak@k against all choices of k samples, against many digits, and how often its interval holds."""

from __future__ import annotations

from itertools import combinations

import mpmath
import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.leak_at_k import exact_leak, leak_at_k, log_exact_leak, mean_leak_at_k


def test_golden_values():
    leaks = [float(leak_at_k([0, 0, 0, 1, 1], k)) for k in (1, 2, 5)]
    assert leaks == pytest.approx([0.4, 0.7, 1.0])


@pytest.mark.parametrize("k", range(1, 8))
def test_it_is_the_mean_over_all_choices(k):
    samples = np.round(np.random.default_rng(k).random((3, 7)), 1)
    slow = [np.mean([max(choice) for choice in combinations(row, k)]) for row in samples]
    np.testing.assert_allclose(leak_at_k(samples, k), slow)


def test_a_thousand_samples_do_not_overflow():
    hits = np.zeros(1024)
    hits[:3] = 1
    with mpmath.workdps(50):
        expected = {k: 1 - mpmath.binomial(1021, k) / mpmath.binomial(1024, k) for k in (1, 64, 512, 1024)}
    for k, value in expected.items():
        assert float(leak_at_k(hits, k)) == pytest.approx(float(value), rel=1e-9)


def test_it_is_unbiased():
    """Hits with chance q: the mean over many prompts is 1 - (1 - q)^k."""
    rng = np.random.default_rng(0)
    hits = rng.random((4000, 16)) < 0.07
    for k in (1, 4, 16):
        leaks = leak_at_k(hits, k)
        assert leaks.mean() == pytest.approx(1 - 0.93**k, abs=4 * leaks.std() / 63)


@pytest.mark.parametrize("log_q", [-1e-12, -1e-3, -0.5, -3.0, -29.9, -30.1, -200.0, -700.0])
@pytest.mark.parametrize("k", [1, 2, 1024, 10**9])
def test_exact_leak_to_many_digits(log_q, k):
    with mpmath.workdps(400):
        q = mpmath.exp(mpmath.mpf(log_q))
        expected = 1 - (1 - q) ** k
        log_expected = float(mpmath.log(expected))
    assert float(exact_leak(log_q, k)) == pytest.approx(float(expected), rel=1e-12)
    assert float(log_exact_leak(log_q, k)) == pytest.approx(log_expected, rel=1e-11, abs=1e-300)


def test_ends_of_the_exact_leak():
    assert float(exact_leak(0.0, 5)) == 1.0
    assert float(exact_leak(-np.inf, 5)) == 0.0
    assert float(log_exact_leak(-5000.0, 1024)) == pytest.approx(-5000 + np.log(1024))
    np.testing.assert_allclose(exact_leak(np.array([[-1.0, -2.0]]), 1), np.exp([[-1.0, -2.0]]))


def test_the_interval_holds_with_users():
    """60 repetitions of 25 users with rates of their own; nominal 5 % misses, 25 % would be too many."""
    rng = np.random.default_rng(1)
    truth = np.mean(1 - (1 - np.clip(np.random.default_rng(9).beta(1, 9, 200_000), 0, 1)) ** 4)
    missed = 0
    for _ in range(60):
        rate = np.repeat(rng.beta(1, 9, 25), 4)
        hits = rng.random((100, 12)) < rate[:, None]
        estimate = mean_leak_at_k(hits, 4, np.repeat(np.arange(25), 4))
        missed += not estimate.lo <= truth <= estimate.hi
    assert missed <= 9


def test_nothing_seen_is_not_nothing_there():
    estimate = mean_leak_at_k(np.zeros((30, 8)), 8)
    assert (estimate.value, estimate.lo) == (0.0, 0.0)
    assert estimate.hi == pytest.approx(1 - 0.025 ** (1 / 30))


def test_refusals():
    with pytest.raises(Underpowered):
        leak_at_k([0.0, 1.0], 3)
    for samples, k in (([0.0, np.nan], 1), ([], 1), (np.zeros((1, 2, 3)), 1), ([0.0, 1.0], 0), ([0.0, 1.0], 1.5)):
        with pytest.raises(BadInput):
            leak_at_k(samples, k)
    with pytest.raises(BadInput):
        exact_leak(0.5, 2)
    with pytest.raises(BadInput):
        mean_leak_at_k([[0.0, 2.0], [0.0, 1.0]], 1)
    with pytest.raises(BadInput):
        mean_leak_at_k([0.0, 1.0], 1)
    with pytest.raises(Underpowered):
        mean_leak_at_k([[0.0, 1.0], [0.0, 0.5]], 1, ["ana", "ana"])
