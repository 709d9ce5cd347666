# SPDX-License-Identifier: Apache-2.0
"""One private round against a naive loop, and whatever clients may send."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.federated.update import clipped, norm
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.noise import normals
from reticent.testing.made_up_federation import KEY, LIKE, made_up_mechanism, made_up_update


def opened(number=2, clip=0.5, **changes):
    return made_up_mechanism(**changes).open_round(number, clip, LIKE)


def naive_mean(updates, *, number=2, clip=0.5, noise=1.0, expected=15):
    """As the definition reads, in float64."""
    means = {}
    for index, name in enumerate(sorted(LIKE)):
        total = np.zeros(LIKE[name].shape)
        for update in updates:
            length = np.sqrt(sum(float((array.double() ** 2).sum()) for array in update.values()))
            total += update[name].double().numpy() * min(1.0, clip / length if length else 1.0)
        tiles = np.arange(-(-total.size // 256))
        drawn = normals(KEY, number, index, tiles).ravel()[: total.size].reshape(total.shape)
        means[name] = (total + noise * clip * drawn) / expected
    return means


@pytest.mark.parametrize("answering", [16, 3, 0])
def test_sum_noise_and_denominator_equal_a_naive_loop_whoever_answers(answering):
    a_round = opened()
    drawn = a_round.setup.drawn[:answering]
    assert all(a_round.add(made_up_update(client, 2)) for client in drawn)
    closed = a_round.close()
    expected = naive_mean([made_up_update(client, 2) for client in drawn])
    for name, array in closed.mean.items():
        np.testing.assert_allclose(array.numpy(), expected[name], rtol=1e-4, atol=1e-6)
    assert closed.next_clip == 0.5
    assert closed.measured.denominator == 15


def test_the_noise_is_a_function_of_key_round_and_array_only():
    first, again = opened().close().mean, opened().close().mean
    assert all(torch.equal(first[name], again[name]) for name in LIKE)
    other = opened(number=3).close().mean
    assert not any(torch.allclose(first[name], other[name]) for name in LIKE)
    reordered = made_up_mechanism().open_round(2, 0.5, dict(reversed(LIKE.items()))).close().mean
    assert all(torch.equal(first[name], reordered[name]) for name in LIKE)
    twice = opened(clip=1.0).close().mean
    assert all(torch.allclose(2 * first[name], twice[name]) for name in LIKE)


def broken(kind):
    update = made_up_update(1, 2)
    if kind in ("nan", "inf"):
        update["a"][3, 3] = float(kind)
    elif kind == "opposite infinities":
        update["a"][3, :2] = torch.tensor([float("inf"), float("-inf")])
    elif kind == "shape":
        update["a"] = update["a"].T
    elif kind == "names":
        update["c"] = torch.zeros(1)
    elif kind == "missing":
        del update["b"]
    elif kind == "type":
        update["a"] = update["a"].double()
    return update


@pytest.mark.parametrize("kind", ["nan", "inf", "opposite infinities", "shape", "names", "missing", "type"])
def test_what_cannot_be_summed_counts_as_zero(kind):
    a_round = opened()
    assert not a_round.add(broken(kind))
    closed = a_round.close()
    assert (closed.measured.answered, closed.measured.refused) == (0, 1)
    empty = opened().close()
    assert all(torch.equal(closed.mean[name], empty.mean[name]) for name in LIKE)


@pytest.mark.parametrize("size", [0.0, 1e-30, 3e38])
def test_updates_of_zero_and_of_huge_numbers_are_clipped_as_any(size):
    a_round = opened()
    assert a_round.add({name: torch.full(array.shape, size) for name, array in LIKE.items()})
    length = norm(a_round.total)
    assert length <= 0.5 * (1 + 1e-6)
    assert length == pytest.approx(0.5, rel=1e-6) if size > 1 else length < 1e-20
    assert all(torch.isfinite(array).all() for array in a_round.close().mean.values())


def test_a_huge_update_is_not_longer_than_the_bound_after_clipping():
    """In float32 the factor would have lost its digits."""
    for seed in range(20):
        huge = {"a": 2e38 * (torch.rand(100_000, generator=torch.Generator().manual_seed(seed)) - 0.5)}
        assert norm(clipped(huge, 1e-3)) <= 1e-3 * (1 + 1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(1e-2, 10.0), st.integers(0, 5))
def test_adding_or_removing_a_client_moves_the_sum_by_at_most_the_clip_norm(seed, scale, clip, others):
    without, with_it = opened(clip=clip), opened(clip=clip)
    for number in range(others):
        for a_round in (without, with_it):
            a_round.add(made_up_update(number, 0))
    with_it.add(made_up_update(seed, 1, scale))
    moved = norm({name: with_it.total[name] - without.total[name] for name in LIKE})
    assert moved <= clip * (1 + 1e-5)


def test_nobody_counts_twice():
    a_round = opened()
    client, *others = a_round.setup.drawn
    stranger = next(number for number in range(60) if number not in a_round.setup.drawn)
    assert a_round.add(made_up_update(client, 2), client=client)
    assert not a_round.add(made_up_update(client, 2), client=client)
    assert not a_round.add(made_up_update(stranger, 2), client=stranger)
    assert a_round.refused == 2
    for _ in others:
        assert a_round.add(made_up_update(client, 2))
    with pytest.raises(GuaranteeViolated, match="more updates than the"):
        a_round.add(made_up_update(client, 2))
    a_round.close()
    with pytest.raises(GuaranteeViolated, match="after round 2 was closed"):
        a_round.add(made_up_update(client, 2))
    with pytest.raises(GuaranteeViolated, match="closed twice"):
        a_round.close()


def test_one_sum_is_kept_and_updates_are_left_alone():
    a_round = opened()
    update = made_up_update(1, 2)
    copy = {name: array.clone() for name, array in update.items()}
    a_round.add(update)
    assert all(torch.equal(update[name], copy[name]) for name in LIKE)
    a_round.total["a"].add_(1.0)
    assert torch.equal(update["a"], copy["a"])
