# SPDX-License-Identifier: Apache-2.0
"""Where tensors are looked at, what is drawn a second time, and what a change of weights shows as."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.meters import DrawMeter
from reticent.privacy.noise import add_noise
from reticent.privacy.noise_check import NoiseCheck
from reticent.privacy.plan import make_plan
from reticent.privacy.redraw import batch_again, noise_again, noise_of_one
from reticent.privacy.sampling import PoissonSampler, Population
from reticent.privacy.spec import PrivacySpec
from reticent.privacy.watch import FIRST, Weights, bits, places, stretch

KEY = hashlib.sha256(b"a key for tests").digest()


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 5_000), min_size=1, max_size=6), step=st.integers(0, 10_000))
def test_places_lie_within_their_tensors(sizes: list[int], step: int) -> None:
    where = places(sizes, KEY, step)
    for size, spans in zip(sizes, where.spans, strict=True):
        assert spans[0][0] == 0
        assert all(0 <= start <= stop <= size for start, stop in spans)
        assert sum(stop - start for start, stop in spans) == min(size, FIRST + stretch(len(sizes)))
    elements = [torch.arange(size) + 10_000 * number for number, size in enumerate(sizes)]
    seen = where.of(elements)
    assert len(np.unique(seen)) == len(seen) == sum(where.counts)
    assert all(where.tensor_of(i) == value // 10_000 for i, value in enumerate(seen.tolist()))


def test_the_stretch_moves_over_all_of_a_tensor() -> None:
    """1,000 steps: an element in the middle is left out with a chance below (1 - 4096/20000)^1000."""
    seen = np.zeros(20_000, dtype=bool)
    for step in range(1_000):
        for start, stop in places([20_000], KEY, step).spans[0]:
            seen[start:stop] = True
    assert seen[FIRST + stretch(1) : -stretch(1)].all()


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=5), step=st.integers(0, 1_000))
def test_noise_is_drawn_again_as_it_was(sizes: list[int], step: int) -> None:
    tensors = [torch.zeros(size) for size in sizes]
    for index, tensor in enumerate(tensors):
        add_noise(tensor, std=1.0, scale=1.0, key=KEY, step=step, index=index)
    where = places(sizes, KEY, step)
    np.testing.assert_allclose(where.of(tensors), noise_again(KEY, step, where), atol=2e-5)
    last = len(sizes) - 1
    assert torch.equal(noise_of_one(KEY, step, last, sizes[last], torch.device("cpu")), tensors[last])


def test_where_a_generator_cannot_be_read_in_the_middle_one_parameter_is_drawn_whole() -> None:
    """As on CUDA; another one in each step."""
    people = Population(users=(None,) * 64, lengths=(4,) * 64)
    plan = make_plan(PrivacySpec(noise_multiplier=1.0, delta=1e-4), people, batch_size=8, steps=20, key=KEY)
    names = {nn.Parameter(torch.zeros(40 + number)): str(number) for number in range(4)}
    check = NoiseCheck(plan, names, error=1e-6)
    chosen = set()
    for step in range(20):
        check.step, check.places = step, check._places(step)
        again, where = check._expected_of_one(list(names))
        chosen.add(check.places.tensor_of(int(np.flatnonzero(where)[0])))
        np.testing.assert_allclose(again, noise_again(KEY, step, check.places)[where], atol=2e-5)
    assert chosen == {0, 1, 2, 3}


@settings(deadline=None, max_examples=60)
@given(units=st.integers(1, 3_000), rate=st.floats(1e-4, 1), step=st.integers(0, 50))
def test_batches_are_drawn_again_as_they_were(units: int, rate: float, step: int) -> None:
    sampler = PoissonSampler(
        units=units, rate=rate, steps=51, owned=1, rows_per_unit=1, draw=lambda unit, step: (), key=KEY
    )
    assert batch_again(KEY, step, units=units, rate=rate) == sampler.sampled(step).tolist()


# ---- weights ---------------------------------------------------------------------------------------------------------


def model() -> nn.Module:
    layers = nn.Sequential(nn.Linear(60, 60), nn.BatchNorm1d(60), nn.Linear(60, 5))
    layers[0].requires_grad_(False)
    return layers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_element_changes_the_bits(dtype: torch.dtype) -> None:
    tensor = torch.randn(50, 70).to(dtype)
    before = bits(tensor)
    assert bits(tensor.clone()) == before
    tensor[31, 2] += 0.5
    assert bits(tensor) != before
    assert bits(torch.zeros(0)) == 0
    assert bits(torch.tensor([True, False])) == 1
    assert bits(torch.ones(2, dtype=torch.complex64)) != bits(torch.zeros(2, dtype=torch.complex64))


def test_weights_that_rest_are_let_be() -> None:
    weights = Weights(model(), KEY)
    for step in range(3):
        weights.stamp(step)
        weights.unmoved(trained=True)
    weights.whole()


def test_a_trained_weight_may_change_where_only_frozen_ones_are_looked_at() -> None:
    layers = model()
    weights = Weights(layers, KEY)
    layers[2].weight.data += 1
    weights.unmoved(trained=False)
    with pytest.raises(GuaranteeViolated, match=r"2.weight changed outside of the optimizer's step"):
        weights.unmoved(trained=True)


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean", "1.num_batches_tracked"])
def test_what_is_frozen_may_not(name: str) -> None:
    layers = model()
    weights = Weights(layers, KEY)
    layers.state_dict()[name].add_(1)
    with pytest.raises(GuaranteeViolated, match=rf"{name} changed though nothing may change it"):
        weights.unmoved(trained=False)
    with pytest.raises(GuaranteeViolated, match=name):
        weights.whole()


def test_a_single_element_is_seen_in_the_sum_of_bits() -> None:
    layers = model()
    weights = Weights(layers, KEY)
    layers[0].weight.data.view(-1)[2_000] += 1e-6
    with pytest.raises(GuaranteeViolated, match=r"0.weight"):
        weights.whole()


# ---- who is drawn how often ------------------------------------------------------------------------------------------

UNITS, RATE, STEPS = 200, 0.1, 60


def meter() -> DrawMeter:
    return DrawMeter(UNITS, RATE, steps=STEPS, error=1e-6)


def test_coins_are_let_through() -> None:
    """A hundred runs; a false alarm in one of them has a chance of 1e-4."""
    for seed in range(100):
        draw, one = np.random.default_rng(seed), meter()
        for _ in range(STEPS):
            assert one.add(np.flatnonzero(draw.random(UNITS) < RATE).tolist()) is None


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (lambda draw, step: np.union1d(np.flatnonzero(draw.random(UNITS) < RATE), [3]), "a unit was in"),
        (lambda draw, step: np.arange(20), "of one batch are in the next|a unit was in"),
        (lambda draw, step: np.arange(20) + 100 * (step % 2), "a unit was in"),
    ],
    ids=["one always", "the same always", "two in turns"],
)
def test_other_draws_are_found(drawn: object, said: str) -> None:
    draw, one = np.random.default_rng(0), meter()
    found = [one.add(drawn(draw, step).tolist()) for step in range(STEPS)]  # type: ignore[operator]
    first = next(one for one in found if one is not None)
    assert re.search(said, first)


def test_with_everybody_in_every_step_there_is_nothing_to_test() -> None:
    one = DrawMeter(10, 1.0, steps=5, error=1e-6)
    assert [one.add(list(range(10))) for _ in range(5)] == [None] * 5
