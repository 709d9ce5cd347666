# SPDX-License-Identifier: Apache-2.0
"""ε of steps: golden values, closed forms, naive twins, and two accountants that share no code."""

import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

from reticent.core.errors import BadInput
from reticent.privacy import accounting
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.renyi import ORDERS, mixture_divergence, renyi_epsilon, replacement_divergence
from reticent.stats.epsilon import gdp_epsilon


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "want"),
    [
        (0.064, 1.3, 120, 3.003837804920593),
        (0.01, 0.6, 1000, 7.433616100201769),
        (0.001, 0.5, 20000, 6.505162712818533),
        (0.5, 5.0, 300, 8.527206855383973),
        (0.9, 20.0, 1000, 6.624248307849342),
    ],
)
def test_golden_poisson_gaussian(rate, noise, steps, want):
    """Golden: dp_accounting's PLDAccountant with cells of 1e-4 at δ = 1e-5. Wider cells may only add."""
    got = accounting.spent(Mechanism(noise_multiplier=noise, rate=rate), steps=steps, delta=1e-5)
    assert want - 1e-6 <= got.epsilon <= want + 0.006
    assert got.check >= got.epsilon


@pytest.mark.parametrize(("noise", "steps", "delta"), [(10.0, 100, 1e-5), (2.0, 4, 1e-6), (77.0, 120, 1e-5)])
def test_full_batch_is_the_gaussian_mechanism(noise, steps, delta):
    got = accounting.spent(Mechanism(noise_multiplier=noise, rate=1.0), steps=steps, delta=delta).epsilon
    want = gdp_epsilon(math.sqrt(steps) / noise, delta)
    assert want - 1e-9 <= got <= want + 0.005


def test_full_batch_of_owners_is_the_gaussian_mechanism_at_their_number():
    got = accounting.spent(Mechanism(noise_multiplier=20.0, rate=1.0, owned=4), steps=50, delta=1e-5).epsilon
    assert got == pytest.approx(gdp_epsilon(4 * math.sqrt(50) / 20, 1e-5), abs=0.003)


def test_owner_of_one_is_the_sampled_unit():
    one = Mechanism(noise_multiplier=1.3, rate=0.064)
    assert one.event == dp_event.PoissonSampledDpEvent(0.064, dp_event.GaussianDpEvent(1.3))
    mixture = dp_event.MixtureOfGaussiansDpEvent(1.3, [0, 1], [1 - 0.064, 0.064])
    accountant = PLDAccountant(value_discretization_interval=1e-3).compose(dp_event.SelfComposedDpEvent(mixture, 120))
    assert accountant.get_epsilon(1e-5) == pytest.approx(
        accounting.spent(one, steps=120, delta=1e-5).epsilon, abs=0.003
    )
    black_box = replace(one, black_box=True)
    assert accounting.spent(black_box, steps=120, delta=1e-5) == accounting.spent(one, steps=120, delta=1e-5)


def delta_by_integration(noise, rate, owned, epsilon):
    """max over both directions of ∫ (p − e^ε q)₊, on a fine grid, for one step."""
    points, width = np.linspace(-12 * noise, owned + 12 * noise, 60_001, retstep=True)
    out = norm.pdf(points, scale=noise)
    inside = sum(binom.pmf(i, owned, rate) * norm.pdf(points, loc=i, scale=noise) for i in range(owned + 1))
    removed, added = inside - math.exp(epsilon) * out, out - math.exp(epsilon) * inside
    return max(np.clip(removed, 0, None).sum(), np.clip(added, 0, None).sum()) * width


@pytest.mark.parametrize(("noise", "rate", "owned"), [(1.0, 0.1, 4), (0.7, 0.3, 2), (2.0, 0.05, 10)])
def test_one_step_of_owners_equals_integration(noise, rate, owned):
    got = accounting.spent(Mechanism(noise_multiplier=noise, rate=rate, owned=owned), steps=1, delta=1e-4).epsilon
    want = brentq(lambda epsilon: delta_by_integration(noise, rate, owned, epsilon) - 1e-4, 0, 50, xtol=1e-6)
    assert want - 1e-5 <= got <= want + 0.011


@pytest.mark.parametrize(("noise", "rate"), [(0.8, 0.05), (3.0, 0.4)])
def test_integrated_divergence_equals_the_closed_form_where_there_is_one(noise, rate):
    event = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
    want = RdpAccountant(ORDERS).compose(event).rdp
    for order in (2, 3, 8, 32):
        got = mixture_divergence(noise, Mechanism(noise_multiplier=noise, rate=rate).participation(), order)
        assert got == pytest.approx(want[ORDERS.index(order)], rel=1e-9)


def test_integrated_divergence_of_everybody_is_that_of_shifted_gaussians():
    """Rate 1: N(G, σ²) against N(0, σ²) diverge by order·G²/(2σ²)."""
    for order in (2, 5):
        got = mixture_divergence(3.0, Mechanism(noise_multiplier=3.0, rate=1.0, owned=4).participation(), order)
        assert got == pytest.approx(order * 16 / (2 * 9), rel=1e-9)


@pytest.mark.parametrize(
    ("epsilon", "delta", "size", "want"),
    [(8, 1e-5, 2, (4, 1.799e-7)), (8, 1e-5, 10, (0.8, 4.113e-9)), (3, 1e-5, 10, (0.3, 1.833e-7))],
)
def test_golden_group_budget(epsilon, delta, size, want):
    got = accounting.group_budget(epsilon, delta, size=size)
    assert got == pytest.approx(want, rel=3e-4)


@given(epsilon=st.floats(0, 20), size=st.integers(1, 30))
@settings(deadline=None)
def test_growth_of_delta_is_the_sum_of_steps_from_neighbour_to_neighbour(epsilon, size):
    """Group privacy by hand: δ + e^ε·δ + … + e^((G−1)ε)·δ."""
    by_hand = math.log(sum(math.exp(i * epsilon - (size - 1) * epsilon) for i in range(size))) + (size - 1) * epsilon
    assert accounting._log_growth(epsilon, size) == pytest.approx(by_hand, abs=1e-6)


def test_group_privacy_equals_a_search_along_the_curve():
    mechanism = Mechanism(noise_multiplier=6.0, rate=0.05, owned=4, black_box=True)
    got = accounting.spent(mechanism, steps=100, delta=1e-5)
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_event.SelfComposedDpEvent(mechanism.event, 100))
    tried = np.arange(0, 3, 2e-4)
    growth = [sum(math.exp(i * epsilon) for i in range(4)) for epsilon in tried]
    good = [e for e, d, g in zip(tried, accountant.get_delta(tried), growth, strict=True) if d * g <= 1e-5]
    assert got.epsilon == pytest.approx(4 * min(good), abs=0.01)
    assert got.check >= got.epsilon


def test_mixture_is_tighter_than_the_black_box():
    mixture = Mechanism(noise_multiplier=4.0, rate=0.1, owned=4)
    exact = accounting.spent(mixture, steps=100, delta=1e-5).epsilon
    assert exact < accounting.spent(replace(mixture, black_box=True), steps=100, delta=1e-5).epsilon


mechanisms = st.builds(
    Mechanism,
    noise_multiplier=st.just(1.0),
    rate=st.floats(0.01, 1.0),
    owned=st.sampled_from([1, 1, 3]),
    black_box=st.booleans(),
) | st.builds(
    Mechanism,
    noise_multiplier=st.just(1.0),
    rate=st.floats(0.01, 1.0),
    owned=st.sampled_from([1, 3]),
    black_box=st.just(True),
    relation=st.just("replace_one"),
)


@given(mechanism=mechanisms, steps=st.integers(1, 60), epsilon=st.floats(0.2, 10))
@settings(deadline=None, max_examples=8, derandomize=True)
def test_calibrated_noise_keeps_the_promise_and_hardly_less_would_do(mechanism, steps, epsilon):
    noise = accounting.calibrate(mechanism, steps=steps, epsilon=epsilon, delta=1e-4)
    kept = accounting.spent(replace(mechanism, noise_multiplier=noise), steps=steps, delta=1e-4)
    assert kept.epsilon <= epsilon
    assert kept.check >= kept.epsilon * 0.99 - 0.01
    less = accounting.spent(replace(mechanism, noise_multiplier=0.99 * noise), steps=steps, delta=1e-4)
    assert less.epsilon > epsilon


def test_more_steps_more_sampling_less_noise_cost_more():
    base = Mechanism(noise_multiplier=1.5, rate=0.1)
    cost = accounting.spent(base, steps=50, delta=1e-5).epsilon
    assert accounting.spent(base, steps=60, delta=1e-5).epsilon > cost
    assert accounting.spent(replace(base, rate=0.2), steps=50, delta=1e-5).epsilon > cost
    assert accounting.spent(replace(base, noise_multiplier=1.4), steps=50, delta=1e-5).epsilon > cost
    assert accounting.spent(replace(base, owned=2), steps=50, delta=1e-5).epsilon > cost
    assert accounting.spent(base, steps=50, delta=1e-6).epsilon > cost
    assert accounting.spent(base, steps=0, delta=1e-5) == (0.0, 0.0)


def test_a_promise_that_needs_no_noise_ends():
    """Whoever is drawn less often than δ is hidden without noise; the search must not run on for ever."""
    noise = accounting.calibrate(Mechanism(noise_multiplier=1.0, rate=1e-3, owned=2), steps=1, epsilon=1, delta=0.05)
    assert noise < 2 * accounting.LEAST_NOISE


def test_too_little_noise_and_too_large_epsilon_are_refused():
    with pytest.raises(BadInput, match="too little noise"):
        accounting.spent(Mechanism(noise_multiplier=0.01, rate=0.5), steps=10_000, delta=1e-5)
    with pytest.raises(BadInput, match="promises nothing"):
        accounting.calibrate(Mechanism(noise_multiplier=1.0, rate=0.5), steps=10_000, epsilon=1e5, delta=1e-5)
    with pytest.raises(BadInput, match="accounting cannot show"):
        accounting.group_budget(50, 1e-5, size=4)


def test_accountants_that_contradict_each_other_stop_everything(monkeypatch):
    monkeypatch.setattr(accounting, "renyi_epsilon", lambda mechanism, *, steps, delta: 0.5)
    monkeypatch.setattr(accounting, "_check_cells", lambda *args: None)
    with pytest.raises(RuntimeError, match="accountants disagree"):
        accounting.spent(Mechanism(noise_multiplier=1.234, rate=0.1), steps=77, delta=1e-5)


def test_check_of_mixtures_is_close():
    mixture = Mechanism(noise_multiplier=4.0, rate=0.161, owned=4)
    got = accounting.spent(mixture, steps=120, delta=1e-4)
    assert got.epsilon <= got.check <= 1.25 * got.epsilon
    assert renyi_epsilon(mixture, steps=120, delta=1e-4) == got.check


def test_what_is_cut_off_a_mixture_is_rare_and_paid_for():
    mechanism = Mechanism(noise_multiplier=1.0, rate=0.01, owned=30)
    whole, cut = mechanism.participation(), mechanism.participation(tail=1e-6)
    assert whole.cut == 0
    assert len(whole.counts) == 31
    assert whole.chances.sum() == pytest.approx(1)
    assert 0 < cut.cut <= 1e-6 < binom.sf(cut.counts[-1] - 1, 30, 0.01)
    assert cut.chances == pytest.approx(whole.chances[: len(cut.counts)] / (1 - cut.cut))


def test_rare_crowds_do_not_spoil_the_check():
    """Ten records of a user in one step have a chance of 1e-30, but a divergence that would make the check 100,000."""
    mechanism = Mechanism(noise_multiplier=0.8, rate=1e-3, owned=10)
    got = accounting.spent(mechanism, steps=500, delta=1e-6)
    assert got.epsilon <= got.check <= 4 * got.epsilon


RELATIONS = ("add_or_remove", "zero_out", "replace_one")


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "want"),
    [(0.1, 1.0, 100, 1e-5, (7.048, 7.048, 10.516)), (0.02, 0.8, 500, 1e-6, (5.442, 5.442, 7.072))],
)
def test_golden_relations(rate, noise, steps, delta, want):
    """Golden: dp_accounting's PLDAccountant with cells of 1e-4."""
    for relation, epsilon in zip(RELATIONS, want, strict=True):
        mechanism = Mechanism(noise_multiplier=noise, rate=rate, relation=relation)
        got = accounting.spent(mechanism, steps=steps, delta=delta)
        assert epsilon - 0.002 <= got.epsilon <= epsilon + 0.006
        assert got.epsilon <= got.check <= 1.25 * got.epsilon


def convolved_delta(noise, rate, steps, epsilon, *, up):
    """δ of steps in which a unit is replaced by its opposite: losses of a fine grid of outputs, rounded up or down to
    cells, convolved by FFT. Owes nothing to the accountant."""
    width = 1e-3
    points, gap = np.linspace(-1 - 9 * noise, 1 + 9 * noise, 400_001, retstep=True)

    def density(shift):
        return (1 - rate) * norm.pdf(points, scale=noise) + rate * norm.pdf(points, loc=shift, scale=noise)

    inside = density(1.0)
    losses = np.log(inside / density(-1.0)) / width
    cells = (np.ceil(losses) if up else np.floor(losses)).astype(int)
    lowest = cells.min()
    chances = np.bincount(cells - lowest, weights=inside * gap)
    length = 2 ** math.ceil(math.log2(len(chances) * steps))
    total = np.fft.irfft(np.fft.rfft(chances, length) ** steps, length)
    values = (np.arange(length) + lowest * steps) * width
    above = values > epsilon
    return float(np.sum(total[above] * -np.expm1(epsilon - values[above])))


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.1, 20), (0.8, 0.3, 5)])
def test_a_replaced_unit_costs_what_an_own_convolution_says(noise, rate, steps):
    mechanism = Mechanism(noise_multiplier=noise, rate=rate, relation="replace_one")
    for delta in (1e-3, 1e-5):
        epsilon = accounting.spent(mechanism, steps=steps, delta=delta).epsilon
        assert convolved_delta(noise, rate, steps, epsilon, up=False) <= delta
        assert delta <= convolved_delta(noise, rate, steps, epsilon - 0.01, up=True)


@pytest.mark.parametrize(("noise", "rate", "order"), [(1.0, 0.1, 2), (2.0, 0.5, 7), (1.5, 0.01, 12), (2.0, 0.9999, 9)])
def test_divergence_of_a_replaced_unit_is_the_integral(noise, rate, order):
    points, gap = np.linspace(-1 - 15 * noise, 2 * order + 15 * noise, 200_001, retstep=True)
    one, other = (
        (1 - rate) * norm.pdf(points, scale=noise) + rate * norm.pdf(points, loc=shift, scale=noise)
        for shift in (1, -1)
    )
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        powers = np.where(other > 0, one * (one / other) ** (order - 1), 0.0)
    assert np.isfinite(powers).all()
    want = math.log(powers.sum() * gap) / (order - 1)
    assert replacement_divergence(noise, rate, order) == pytest.approx(want, rel=1e-6)


def test_a_replaced_unit_in_every_step_is_a_gaussian_of_twice_the_shift():
    single = Mechanism(noise_multiplier=20.0, rate=1.0, relation="replace_one")
    got = accounting.spent(single, steps=50, delta=1e-5)
    assert got.epsilon == pytest.approx(gdp_epsilon(2 * math.sqrt(50) / 20, 1e-5), abs=0.005)
    assert got.check >= got.epsilon
    owners = accounting.spent(replace(single, noise_multiplier=60.0, owned=3), steps=50, delta=1e-5)
    assert owners.epsilon == pytest.approx(got.epsilon, abs=2e-3)


def test_to_replace_costs_more_than_to_remove_and_no_more_than_to_remove_and_add():
    for noise, rate in ((1.0, 0.1), (3.0, 0.5)):
        remove = Mechanism(noise_multiplier=noise, rate=rate)
        exchange = replace(remove, relation="replace_one")
        once = accounting.spent(remove, steps=40, delta=1e-5).epsilon
        # (ε, δ) twice is (2ε, (1 + e^ε)δ).
        both = accounting.spent(exchange, steps=40, delta=1e-5 * (1 + math.exp(once))).epsilon
        assert both <= 2 * once
        assert accounting.spent(exchange, steps=40, delta=1e-5).epsilon > once


def test_owners_who_are_replaced_are_refused_by_name():
    with pytest.raises(BadInput, match="replace_one' for owners of 4 sampled records"):
        Mechanism(noise_multiplier=1.0, rate=0.1, owned=4, relation="replace_one")
    Mechanism(noise_multiplier=1.0, rate=0.1, owned=4, relation="replace_one", black_box=True)
    with pytest.raises(BadInput, match="relation"):
        Mechanism(noise_multiplier=1.0, rate=0.1, relation="swap")


class TestImplied:
    record_level = Mechanism(noise_multiplier=2.0, rate=0.02)

    def of(self, records, steps=50):
        return accounting.implied_user_epsilon(self.record_level, records=records, steps=steps, delta=1e-5)

    def test_owner_of_one_record_has_the_epsilon_of_records(self):
        assert self.of(1) == pytest.approx(accounting.spent(self.record_level, steps=50, delta=1e-5).epsilon, abs=0.15)

    def test_is_the_mixture_of_that_many(self):
        exact = accounting.spent(replace(self.record_level, owned=6), steps=50, delta=1e-5).epsilon
        assert exact <= self.of(6) <= exact + 0.15

    def test_is_below_group_privacy(self):
        group = accounting.spent(replace(self.record_level, owned=2, black_box=True), steps=50, delta=1e-5).epsilon
        assert self.of(2) < group

    def test_users_with_very_many_records_get_a_number_too(self):
        assert self.of(100, steps=4) < self.of(500, steps=4) < gdp_epsilon(500 / 2 * math.sqrt(4), 1e-5)
        assert self.of(10**6) == gdp_epsilon(10**6 / 2 * math.sqrt(50), 1e-5)

    def test_no_step_costs_nothing(self):
        assert self.of(6, steps=0) == 0.0
