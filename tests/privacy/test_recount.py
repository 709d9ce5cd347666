# SPDX-License-Identifier: Apache-2.0
"""The second count of ε against closed forms, against the accountant, and where it cannot say anything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from reticent.privacy import accounting
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.recount import epsilon_again
from reticent.stats.epsilon import gdp_epsilon

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""


@pytest.mark.parametrize(
    ("sigma", "steps", "delta"), [(2.0, 1, 1e-5), (4.246, 50, 1e-5), (30.0, 10, 1e-6), (0.8, 4, 1e-4)]
)
def test_gaussians_without_sampling(sigma: float, steps: int, delta: float) -> None:
    exact = gdp_epsilon(np.sqrt(steps) / sigma, delta)
    assert epsilon_again(sigma, [1], [1.0], steps=steps, delta=delta) == pytest.approx(exact, rel=1e-3)


@settings(deadline=None, max_examples=25)
@given(
    sigma=st.floats(0.5, 8),
    rate=st.floats(0.005, 0.5),
    steps=st.integers(1, 600),
    owned=st.integers(1, 4),
    exponent=st.floats(3, 7),
)
def test_it_agrees_with_the_accountant(sigma: float, rate: float, steps: int, owned: int, exponent: float) -> None:
    """Which rounds up, by at most SLACK or MIXTURE_SLACK and a little of a large ε."""
    delta = 10**-exponent
    stated = accounting.spent(
        Mechanism(noise_multiplier=sigma, rate=rate, owned=owned), steps=steps, delta=delta
    ).epsilon
    counts = np.arange(owned + 1)
    again = epsilon_again(sigma, counts.tolist(), binom.pmf(counts, owned, rate).tolist(), steps=steps, delta=delta)
    assert again is not None
    assert again <= stated * 1.03 + 1e-3
    assert stated <= again * 1.03 + 2.5e-2


def test_half_the_steps_or_the_rate_is_far_below() -> None:
    whole = epsilon_again(1.0, [0, 1], [0.9, 0.1], steps=100, delta=1e-5)
    assert whole is not None
    for rate, steps in ((0.05, 100), (0.1, 50)):
        less = epsilon_again(1.0, [0, 1], [1 - rate, rate], steps=steps, delta=1e-5)
        assert less is not None
        assert less < 0.8 * whole


def test_what_it_cannot_say() -> None:
    assert epsilon_again(1.0, [0, 1], [0.9, 0.1], steps=100, delta=1e-11) is None
    assert epsilon_again(1.0, [0, 1], [0.9, 0.1], steps=0, delta=1e-5) == 0
