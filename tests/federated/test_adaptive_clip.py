# SPDX-License-Identifier: Apache-2.0
"""The clip norm that follows a quantile: where it comes to rest, what its bits tell, and what they cost."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.federated.adaptive_clip import AdaptiveClip, bit
from reticent.privacy.noise import normals
from reticent.testing.made_up_federation import KEY, made_up_mechanism

MANY = {"clients": 60, "expected": 60, "rounds": 40}


def plan_for(quantile, start, **changes):
    rule = AdaptiveClip(quantile=quantile, learning_rate=0.5, bit_noise=3.0)
    return made_up_mechanism(**MANY, adaptive=rule, clip_norm=start, **changes)


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("start", [0.1, 10.0])
def test_the_norm_comes_to_rest_at_the_quantile_from_above_and_from_below(quantile, start):
    """Lengths between 0.5 and 2, so the norm begins ten times too long or too short."""
    lengths = np.exp(np.random.default_rng(0).uniform(math.log(0.5), math.log(2.0), size=60))
    plan = plan_for(quantile, start * float(np.quantile(lengths, quantile)))
    like = {"a": torch.zeros(1)}
    clip, seen = plan.clip_norm, []
    for number in range(plan.rounds):
        opened = plan.open_round(number, clip, like)
        for client in plan.sampled(number):
            opened.add({"a": torch.tensor([lengths[client]], dtype=torch.float32)})
        clip = opened.close().next_clip
        seen.append(clip)
    at_rest = float(np.exp(np.mean(np.log(seen[-20:]))))
    assert abs(float(np.mean(lengths <= at_rest)) - quantile) < 0.06


def test_all_too_long_makes_the_norm_grow_and_all_short_makes_it_shrink():
    rule = AdaptiveClip(bit_noise=1.0)
    assert rule.following(0.1, 0.0) == pytest.approx(0.1 * math.exp(0.1))
    assert rule.following(0.1, 1.0) == pytest.approx(0.1 * math.exp(-0.1))


@given(
    st.lists(st.floats(0, 10), max_size=8),
    st.floats(0, 10),
    st.floats(0.01, 10),
)
def test_one_client_moves_the_sum_of_the_bits_by_a_half(norms, one, clip):
    total = sum(bit(norm, clip) for norm in norms)
    assert abs(sum(bit(norm, clip) for norm in [*norms, one]) - total) == 0.5


def test_the_noise_of_the_updates_is_that_of_the_norm_that_clipped():
    """And of z_Δ, which is larger than z; the bits get noise of their own."""
    plan = made_up_mechanism(adaptive=AdaptiveClip(bit_noise=0.75))
    opened = plan.open_round(3, 0.2, {"a": torch.zeros(600)})
    closed = opened.close()
    noise = closed.mean["a"].double().numpy() * plan.expected
    drawn = normals(KEY, 3, 0, np.arange(3)).ravel()[:600]
    np.testing.assert_allclose(noise, plan.update_noise * 0.2 * drawn, rtol=1e-3, atol=1e-5)
    assert plan.update_noise == pytest.approx((1 - (2 * 0.75) ** -2) ** -0.5)
    bits = 0.75 * normals(KEY, 3, 1, np.arange(1))[0, 0]
    assert closed.next_clip == pytest.approx(0.2 * math.exp(-0.2 * bits / 15), rel=1e-5)
    assert closed.next_clip != 0.2


@pytest.mark.parametrize("bit_noise", [0.5, 0.4])
def test_an_imaginary_noise_is_refused(bit_noise):
    with pytest.raises(BadInput, match="from 11 clients a round on"):
        AdaptiveClip(bit_noise=bit_noise).update_noise(1.0)
    assert AdaptiveClip(bit_noise=0.55).update_noise(1.0) == pytest.approx(1 / math.sqrt(1 - 1.1**-2))


@pytest.mark.parametrize("settings", [{"quantile": 0.0}, {"quantile": 1.0}, {"learning_rate": 0.0}, {"bit_noise": -1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(BadInput):
        AdaptiveClip(**{"bit_noise": 1.0, **settings})
