# SPDX-License-Identifier: Apache-2.0
"""Several trainings on the same units: against the plain sum, closed forms, one long training, and integration."""

import math

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

from reticent.privacy import accounting
from reticent.privacy.composition import Part, by_losses, total
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.renyi import renyi_epsilon, renyi_total
from reticent.stats.epsilon import gdp_epsilon

DELTA = 1e-5


def part(noise, rate, steps, owned=1, *, black_box=False):
    mechanism = Mechanism(noise_multiplier=noise, rate=rate, owned=owned, black_box=black_box)
    return Part(mechanism=mechanism, steps=steps)


def alone(one, delta=DELTA):
    return accounting.spent(one.mechanism, steps=one.steps, delta=delta).epsilon


parts = st.lists(
    st.builds(
        part,
        noise=st.floats(2, 30),
        rate=st.sampled_from([0.01, 0.125, 0.5, 1.0]),
        steps=st.integers(1, 40),
        owned=st.sampled_from([1, 1, 4]),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=4, deadline=None)
@given(parts)
def test_the_total_lies_between_each_part_and_the_plain_sum(found):
    """The slow twin, and the obvious one: ε and δ simply add up. Rounding to cells may add its slack to either side."""
    together = total(tuple(found), delta=DELTA).epsilon
    assert together >= max(map(alone, found)) - 0.02
    at_sum = total(tuple(found), delta=len(found) * DELTA).epsilon
    assert at_sum <= sum(map(alone, found)) + 0.02 * len(found)


def test_the_order_of_trainings_changes_nothing():
    found = (part(1.3, 0.064, 120), part(0.9, 0.01, 300), part(2.66, 0.125, 80, owned=4), part(9.0, 1.0, 10))
    assert total(found[::-1], delta=DELTA) == total(found, delta=DELTA)


@pytest.mark.parametrize("noises", [(10.0,), (10.0, 20.0), (5.0, 40.0, 9.0)])
def test_unsampled_parts_are_gaussian_and_the_squares_of_mu_add_up(noises):
    found = tuple(part(noise, 1.0, 10 * (i + 1)) for i, noise in enumerate(noises))
    mu = math.sqrt(sum(one.steps / one.mechanism.noise_multiplier**2 for one in found))
    want = gdp_epsilon(mu, DELTA)
    assert total(found, delta=DELTA).epsilon == pytest.approx(want, rel=1e-9)
    merged = {one.mechanism: one.steps for one in found}
    by_convolution = by_losses(merged, delta=DELTA, width=1e-3)  # as where one part is sampled
    assert want - 1e-9 <= by_convolution <= want + 0.01


@pytest.mark.parametrize(("noise", "rate", "owned"), [(1.3, 0.064, 1), (2.66, 0.125, 4), (9.0, 1.0, 1)])
def test_equal_parts_are_one_training_of_all_their_steps(noise, rate, owned):
    both = total((part(noise, rate, 50, owned), part(noise, rate, 70, owned)), delta=DELTA)
    once = accounting.spent(Mechanism(noise_multiplier=noise, rate=rate, owned=owned), steps=120, delta=DELTA)
    assert both.epsilon == pytest.approx(once.epsilon, abs=0.01)


def test_unequal_parts_equal_dp_accounting_in_fine_cells():
    """Golden, made here: the same events in one accountant with cells of 1e-4."""
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for noise, rate, steps in ((1.3, 0.064, 120), (0.9, 0.01, 300)):
        event = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
        accountant.compose(dp_event.SelfComposedDpEvent(event, steps))
    want = accountant.get_epsilon(DELTA)
    got = total((part(1.3, 0.064, 120), part(0.9, 0.01, 300)), delta=DELTA)
    assert want - 1e-6 <= got.epsilon <= want + 0.01
    assert got.check >= got.epsilon


def test_two_single_steps_equal_integration():
    """δ(ε) of one step each of a sampled unit and of an owner of two, from densities on a grid alone."""
    width = 0.04
    y = np.arange(-20, 22 + width / 2, width)

    def loss(noise, rate, owned):
        out = norm.pdf(y, scale=noise)
        inside = sum(binom.pmf(i, owned, rate) * norm.pdf(y, loc=i, scale=noise) for i in range(owned + 1))
        return out * width, inside * width

    first, second = loss(2.0, 0.3, 1), loss(3.0, 0.5, 2)
    out, inside = np.outer(first[0], second[0]), np.outer(first[1], second[1])

    def delta(epsilon):
        removed, added = inside - math.exp(epsilon) * out, out - math.exp(epsilon) * inside
        return max(np.clip(removed, 0, None).sum(), np.clip(added, 0, None).sum())

    want = brentq(lambda epsilon: delta(epsilon) - 1e-3, 0, 20, xtol=1e-6)
    got = total((part(2.0, 0.3, 1), part(3.0, 0.5, 1, owned=2)), delta=1e-3).epsilon
    assert want - 1e-4 <= got <= want + 0.02


def test_rate_and_owner_of_each_part_matter():
    base = total((part(2.0, 0.1, 50), part(3.0, 0.2, 50)), delta=DELTA).epsilon
    for more in (part(3.0, 0.4, 50), part(3.0, 0.2, 50, owned=3), part(1.5, 0.2, 50), part(3.0, 0.2, 200)):
        assert total((part(2.0, 0.1, 50), more), delta=DELTA).epsilon > base + 0.1


def test_group_privacy_is_counted_closer_as_the_same_training():
    """The black box says more than the mixture of the same training; what several cost is never above its sum."""
    black_box = part(3.0, 0.1, 50, owned=3, black_box=True)
    mixture = part(3.0, 0.1, 50, owned=3)
    assert total((black_box,), delta=DELTA) == total((mixture,), delta=DELTA)
    assert total((black_box,), delta=DELTA).epsilon < alone(black_box)


def test_owners_of_more_than_can_be_mixed_are_bounded_from_above():
    many = part(3000.0, 0.9, 3, owned=100_000)
    got = total((many,), delta=DELTA).epsilon
    assert got == pytest.approx(gdp_epsilon(100_000 / 3000 * math.sqrt(3), DELTA), rel=1e-9)
    assert total((many, part(1.3, 0.064, 120)), delta=DELTA).epsilon >= got
    implied = accounting.implied_user_epsilon(
        Mechanism(noise_multiplier=1.3, rate=0.064), records=40, steps=120, delta=DELTA
    )
    assert total((part(1.3, 0.064, 120, owned=40),), delta=DELTA).epsilon == pytest.approx(implied, rel=0.01)


def test_the_two_renyi_sums_agree():
    """One part: the closed form of the sampled Gaussian (other code) against the integrals of `renyi_total`."""
    one = part(1.3, 0.064, 120)
    want = renyi_epsilon(one.mechanism, steps=one.steps, delta=DELTA)
    assert renyi_total({one.mechanism: one.steps}, delta=DELTA) == pytest.approx(want, rel=1e-6)


def test_nothing_costs_nothing():
    assert total((), delta=DELTA) == (0.0, 0.0)
    assert total((part(1.0, 0.1, 0),), delta=DELTA) == (0.0, 0.0)
    one = part(1.3, 0.064, 120)
    assert total((one, part(1.0, 0.1, 0)), delta=DELTA) == total((one,), delta=DELTA)


def test_little_noise_is_still_bounded():
    """Cells are made wider rather than the sum refused: each training may have been good alone."""
    got = total((part(0.5, 0.5, 200),) * 10, delta=DELTA)
    assert math.isfinite(got.epsilon)
    assert got.epsilon >= alone(part(0.5, 0.5, 200))


def test_accountants_that_contradict_each_other_promise_nothing(monkeypatch):
    total.cache_clear()
    monkeypatch.setattr("reticent.privacy.composition.renyi_total", lambda *args, **kwargs: 0.1)
    with pytest.raises(RuntimeError, match="disagree"):
        total((part(1.3, 0.064, 120),), delta=DELTA)
    total.cache_clear()
