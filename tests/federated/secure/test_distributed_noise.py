# SPDX-License-Identifier: Apache-2.0
"""Rounding, the modulus, shares of noise, and ε of their sum beside that of one Gaussian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from reticent.core.errors import BadInput
from reticent.federated.secure.distributed_epsilon import (
    Observation,
    calibrated_noise,
    distributed_epsilon,
    sampled_divergence,
)
from reticent.federated.secure.distributed_noise import DistributedNoise
from reticent.federated.secure.lattice import Lattice, check_modulus, wrapped
from reticent.federated.secure.random_bits import RandomBits
from reticent.federated.secure.secure_update import client_vector, flattened, mean_update
from reticent.federated.secure.who_sees_what import SecureRun, who_sees_what
from reticent.federated.update import RefusedUpdate, clipped, norm
from reticent.privacy.accounting import spent
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.renyi import renyi_epsilon
from reticent.testing.secure_rounds import opened_sum, small_plan

KEY = bytes(range(32))


def noise_of(**changes):
    settings = {"clip_norm": 1.0, "dimension": 500, "noise_multiplier": 1.0, "threshold": 20, "clients": 25}
    return DistributedNoise.fitted(**(settings | changes))


# ---- rounding ----


def test_rounding_is_right_on_average_and_off_by_less_than_a_step():
    lattice = Lattice(clip_norm=2.0, levels=50, dimension=300)
    values = np.random.default_rng(0).normal(size=300)
    values *= 1.9 / np.linalg.norm(values)
    drawn = np.array([lattice.rounded(values, RandomBits(KEY, "rounding", i)) for i in range(400)])
    assert np.abs(drawn * lattice.step - values).max() < lattice.step
    errors = drawn.mean(axis=0) * lattice.step - values
    assert np.abs(errors).max() < 4.5 * lattice.step / 2 / math.sqrt(400)
    assert (drawn * lattice.step - values).std() <= lattice.step / 2
    assert np.linalg.norm(drawn, axis=1).max() <= lattice.rounded_norm


def test_the_bound_on_rounded_norms_is_close_to_what_happens():
    """Halves are the worst case, and round to a length near the bound, not above."""
    lattice = Lattice(clip_norm=1.0, levels=100, dimension=10_000)
    values = np.full(10_000, 0.5 * lattice.step)
    lengths = [np.linalg.norm(lattice.rounded(values, RandomBits(KEY, "halves", i))) for i in range(20)]
    assert max(lengths) <= lattice.rounded_norm < math.hypot(100, 100 * math.sqrt(2))
    assert lattice.rounded_norm < 100 + math.sqrt(10_000)


def test_long_updates_and_other_shapes_are_refused():
    lattice = Lattice(clip_norm=1.0, levels=10, dimension=2)
    for wrong in (np.array([1.0, 0.1]), np.array([np.nan, 0.0]), np.array([np.inf, 0.0]), np.zeros(3)):
        with pytest.raises(BadInput):
            lattice.rounded(wrong, RandomBits(KEY, "r"))
    assert lattice.rounded(np.array([1.0, 0.0]), RandomBits(KEY, "r")).tolist() == [10, 0]


def test_a_modulus_that_could_wrap_is_refused_at_the_edge():
    check_modulus(11, clients=10, levels=100, noise=23)
    with pytest.raises(BadInput, match="Take 12 bits"):
        check_modulus(11, clients=10, levels=100, noise=24)
    most = 10 * 100 + 23
    assert ((np.array([most, -most]) + 1024) % 2048 - 1024).tolist() == [most, -most]
    noise = noise_of()
    bits = noise.bits(rounds=10)
    noise.check_bits(bits, 10)
    with pytest.raises(BadInput, match="too small"):
        noise.check_bits(bits - 1, 10)
    with pytest.raises(BadInput, match="too small"):
        noise_of(clients=1 << 20, dimension=1_000_000).bits(rounds=1)


def test_wrapping_is_undone_by_the_symmetric_range():
    whole = np.array([-5, 0, 7, -128, 127])
    back = wrapped(whole, 8).astype(np.int64)
    assert np.where(back >= 128, back - 256, back).tolist() == whole.tolist()


# ---- noise ----


def test_the_sum_at_the_threshold_carries_the_promise_and_above_it_more():
    noise = noise_of(dimension=20_000, threshold=4, clients=6)
    shares = np.array([noise.share(bytes([i]) * 32, round_=0) for i in range(6)])
    promised = (noise.noise_multiplier * noise.lattice.levels) ** 2
    slack = 5 * math.sqrt(2 / 20_000)
    assert shares[:4].sum(axis=0).var() >= promised * (1 - slack)
    assert abs(shares.sum(axis=0).var() / promised - 1.5) < 1.5 * slack
    # A denominator of those who answered, or a share of 1 / clients, would not reach it.
    assert shares[:4].sum(axis=0).var() * 4 / 6 < promised * (1 - slack)
    topped = shares[:4].sum(axis=0) + noise.top_up(KEY, round_=0, present=4)
    assert abs(topped.var() / promised - 1.5) < 1.5 * slack
    assert not noise.top_up(KEY, round_=0, present=6).any()


def test_a_share_is_another_one_in_each_round_and_for_each_client():
    noise = noise_of()
    first = noise.share(KEY, round_=0)
    np.testing.assert_array_equal(first, noise.share(KEY, round_=0))
    for other in (noise.share(KEY, round_=1), noise.share(b"z" * 32, round_=0)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.25


def test_the_largest_noise_is_not_reached():
    noise = noise_of(dimension=20_000, threshold=2, clients=2)
    total = noise.share(KEY, round_=0) + noise.share(b"z" * 32, round_=0)
    assert np.abs(total).max() < noise.largest_noise(1) < 12 * math.sqrt(2 * noise.variance)


# ---- ε ----


@pytest.mark.parametrize(("rounds", "rate", "shares", "delta"), [(30, 0.2, 20, 1e-3), (10, 1.0, 20, 1e-5)])
def test_epsilon_is_a_little_above_that_of_one_gaussian(rounds, rate, shares, delta):
    noise = noise_of(dimension=100_000)
    epsilon = distributed_epsilon(noise, Observation(rounds, rate, shares), delta=delta)
    gaussian = Mechanism(noise_multiplier=1.0, rate=rate)
    assert spent(gaussian, steps=rounds, delta=delta).epsilon < epsilon
    by_renyi = renyi_epsilon(gaussian, steps=rounds, delta=delta)
    assert by_renyi < epsilon < by_renyi * 1.04
    # Of the Gaussian with the longer update, to the rounding of the variance.
    longer = Mechanism(noise_multiplier=noise.lattice.levels / noise.sensitivity, rate=rate)
    assert epsilon == pytest.approx(renyi_epsilon(longer, steps=rounds, delta=delta), rel=1e-3)


def test_small_shares_pay_for_not_being_one_gaussian():
    """With a standard deviation of half a step the sum is no discrete Gaussian, and the excess is counted."""
    lattice = Lattice(clip_norm=1.0, levels=4, dimension=10)
    coarse = DistributedNoise(lattice=lattice, noise_multiplier=1.0, threshold=16, clients=16)
    assert coarse.variance == 1
    assert coarse.closeness == pytest.approx(sum(10 * math.exp(-2 * math.pi**2 * k / (k + 1)) for k in range(1, 17)))
    scale = coarse.sensitivity / 4
    assert float(coarse.divergence(2, shares=16)) > scale**2
    assert noise_of().closeness < 1e-30


def test_the_excess_covers_the_exact_divergence_of_a_sum_of_two():
    """Naive twin: the law of the sum by convolution, its divergence from itself moved by one step, term by term."""
    lattice = Lattice(clip_norm=1.0, levels=1, dimension=1)
    noise = DistributedNoise(lattice=lattice, noise_multiplier=math.sqrt(2), threshold=2, clients=2)
    assert noise.variance == 1
    x = np.arange(-40, 41)
    single = np.exp(-(x**2) / 2.0)
    single /= single.sum()
    total = np.convolve(single, single)[1:-1]
    log_total = np.log(total[np.abs(np.arange(len(total)) - len(total) // 2) <= 40])
    for order in (2, 3, 8):
        exact = float(logsumexp(order * log_total[1:] + (1 - order) * log_total[:-1])) / (order - 1)
        bound = float(noise.divergence(order, shares=2)) * (1 / noise.sensitivity) ** 2
        assert order / 4 * 0.99 < exact
        assert exact <= order / 4 + noise.closeness
        assert exact <= float(noise.divergence(order, shares=2))
        assert bound == pytest.approx(order / 4, rel=0.2)


def test_the_sampled_divergence_is_the_naive_expansion():
    noise = noise_of()
    observed = Observation(1, 0.1, 20)
    for order in (2, 5, 17):
        total = sum(
            math.comb(order, k)
            * 0.1**k
            * 0.9 ** (order - k)
            * math.exp((k - 1) * float(noise.divergence(k, shares=20)) if k > 1 else 0.0)
            for k in range(order + 1)
        )
        assert sampled_divergence(noise, observed, order) == pytest.approx(math.log(total) / (order - 1), rel=1e-9)


def test_calibration_keeps_epsilon_and_gives_no_noise_away():
    observed = Observation(30, 0.2, 20)
    chosen = calibrated_noise(noise_of(), observed, epsilon=8.0, delta=1e-3)
    reached = distributed_epsilon(chosen, observed, delta=1e-3)
    assert 7.9 < reached <= 8.0
    with pytest.raises(BadInput, match="less than any noise"):
        calibrated_noise(noise_of(), Observation(10**6, 1.0, 1), epsilon=1e-4, delta=1e-9)


def test_colluders_and_dropouts_cost_what_they_take():
    noise = noise_of()
    by_shares = [
        distributed_epsilon(noise, Observation(5, 1.0, shares), delta=1e-5) for shares in (25, 20, 15, 5, 1, 0)
    ]
    assert by_shares == sorted(by_shares)
    assert by_shares[-1] == math.inf
    assert distributed_epsilon(noise, Observation(0, 1.0, 20), delta=1e-5) == 0.0


def test_the_table_names_each_observer_and_what_its_number_rests_on():
    plan = small_plan(clients=25, threshold=20, dimension=500)
    settings = {"plan": plan, "noise": noise_of(), "rounds": 30, "rate": 0.1, "appearances": 6, "delta": 1e-5}
    rows = who_sees_what(SecureRun(**settings, topped_up=True), colluders=3)
    assert [row.name for row in rows] == [
        "the world",
        "another client",
        "the server",
        "the server and 3 clients of a round",
        "the server and 19 neighbours of a client",
    ]
    assert rows[0].epsilon == distributed_epsilon(noise_of(), Observation(30, 0.1, 25), delta=1e-5)
    assert rows[2].epsilon == distributed_epsilon(noise_of(), Observation(6, 1.0, 20), delta=1e-5)
    assert "secret who was drawn" in rows[0].rests_on
    plain = who_sees_what(SecureRun(**settings, topped_up=False), colluders=3)
    assert plain[0].epsilon == rows[2].epsilon
    assert "nothing of the sampling" in plain[0].rests_on
    with pytest.raises(BadInput):
        who_sees_what(SecureRun(**settings, topped_up=True), colluders=19)
    for changed, said in (
        ({"threshold": 15}, "another one"),
        ({"dimension": 9}, "numbers"),
        ({"bits": 13}, "too small"),
    ):
        other = small_plan(**({"clients": 25, "threshold": 20, "dimension": 500} | changed))
        with pytest.raises(BadInput, match=said):
            SecureRun(**(settings | {"plan": other}), topped_up=True)


# ---- all together ----


def test_a_noised_round_gives_the_mean_of_clipped_updates(ciphers):
    """With next to no noise to rounding; with noise to its standard deviation; weights are the same for all."""
    torch.manual_seed(0)
    updates = {i: {"b": torch.randn(3, 5) * (i + 0.1), "a": torch.randn(10)} for i in range(5)}
    noise = noise_of(dimension=25, noise_multiplier=1e-3, threshold=4, clients=5)
    bits = noise.bits(rounds=1)
    plan = small_plan(dimension=25, bits=bits)
    vectors = {
        i: client_vector(update, noise, key=bytes([i]) * 32, round_=0, bits=bits).astype(np.int64)
        for i, update in updates.items()
    }
    opened = opened_sum(plan, ciphers, vectors, {3: "vector"})
    mean = mean_update(opened.total, noise, like=updates[0], denominator=4.5)
    expected = sum(flattened(clipped(updates[i], 1.0)) for i in (0, 1, 2, 4)) / 4.5
    assert set(mean) == {"a", "b"}
    assert mean["b"].shape == (3, 5)
    off = flattened(mean) - expected
    std = math.sqrt(4 * (noise.variance + 0.25)) * noise.lattice.step / 4.5
    assert np.abs(off).max() < 5 * std
    assert norm(mean) > 0.1


def test_updates_that_are_not_finite_never_reach_the_wire():
    with pytest.raises(RefusedUpdate):
        client_vector({"a": torch.tensor([math.nan])}, noise_of(dimension=1), key=KEY, round_=0, bits=32)
