# SPDX-License-Identifier: Apache-2.0
"""Membership and source as a server sees them, on made-up losses and gradients, beside naive loops."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.attacks.federated.server_membership import auc_by_round, gradient_alignment, loss_drop, over_rounds
from reticent.attacks.federated.source_inference import likely_sources, source_accuracy
from reticent.attacks.user.aggregate import aggregate
from reticent.core.errors import BadInput

rng = np.random.default_rng


def naive_alignment(gradients, update):
    """All arrays behind each other, one text after the other."""
    names = sorted(update)
    change = np.concatenate([update[name].ravel() for name in names])
    cosines = []
    for i in range(len(gradients[names[0]])):
        gradient = np.concatenate([gradients[name][i].ravel() for name in names])
        scale = np.linalg.norm(gradient) * np.linalg.norm(change)
        cosines.append(-gradient @ change / scale if scale else 0.0)
    return np.array(cosines)


def made_up_step(seed=0, members=6):
    """Gradients of 12 texts, and the update of an SGD step on the first ones."""
    gradients = {"a": rng(seed).normal(size=(12, 20, 5)), "b": rng(seed + 1).normal(size=(12, 70))}
    return gradients, {name: -0.1 * array[:members].mean(axis=0) for name, array in gradients.items()}


def test_alignment_is_that_of_the_naive_loop():
    gradients, update = made_up_step()
    np.testing.assert_allclose(gradient_alignment(gradients, update), naive_alignment(gradients, update), rtol=1e-12)
    gradients["a"][3], gradients["b"][3] = 0.0, 0.0
    assert gradient_alignment(gradients, update)[3] == 0.0
    assert not gradient_alignment(gradients, {name: 0 * change for name, change in update.items()}).any()


def test_alignment_tells_members_from_the_rest_and_nothing_of_a_strangers_update():
    member = np.arange(12) < 6
    right = [gradient_alignment(*made_up_step(seed)) for seed in range(0, 20, 2)]
    null = [gradient_alignment(made_up_step(seed)[0], made_up_step(seed + 100)[1]) for seed in range(0, 20, 2)]
    found = [estimate.value for estimate in auc_by_round(np.array(right), member)]
    by_chance = [estimate.value for estimate in auc_by_round(np.array(null), member)]
    assert np.mean(found) > 0.95
    assert abs(np.mean(by_chance) - 0.5) < 0.15


def test_losses_and_gradients_of_other_shapes_are_refused():
    gradients, update = made_up_step()
    for wrong in ({"a": update["a"]}, {**update, "b": update["b"][:-1]}, {}):
        with pytest.raises(BadInput):
            gradient_alignment(gradients, wrong)
    for client, start in (([1.0], [1.0, 2.0]), ([np.nan], [1.0])):
        with pytest.raises(BadInput):
            loss_drop(client, start)


def test_rounds_without_the_client_do_not_count():
    scores = np.array([[1.0, 1.0, 1.0], [5.0, 3.0, 9.0], [2.0, 2.0, 7.0]])
    part = np.array([[True, False, False], [False, True, False], [True, True, False]])
    mean = over_rounds(scores, part)
    assert mean[:2].tolist() == [1.5, 2.5]
    assert np.isnan(mean[2])
    np.testing.assert_array_equal(over_rounds(scores, np.array([True, False, True])), [1.5, 1.5, 4.0])


def test_clients_as_users_are_told_apart_by_the_mean_of_their_texts():
    """Ten clients of eight texts, five of whom took part: weak by text, strong by client."""
    client = np.repeat(np.arange(10), 8)
    took_part = client < 5
    start = rng(3).normal(3.0, 1.0, size=80)
    drop = loss_drop(start - 0.3 * took_part + rng(4).normal(0, 0.3, size=80), start)
    by_text = auc_by_round(drop[None], took_part, client)[0]
    users, scores = aggregate(drop, client)
    by_client = auc_by_round(scores[None], users.astype(int) < 5)[0]
    assert by_text.value < by_client.value
    assert by_client.value > 0.95


def test_a_source_is_found_and_chance_is_one_in_k():
    source = np.repeat(np.arange(4), 25)
    losses = rng(5).normal(2.0, 0.1, size=(4, 100))
    null = source_accuracy(likely_sources(losses), source, clients=4)
    assert null.right.lo < 0.25 < null.right.hi
    assert null.p_value > 0.05
    losses[source, np.arange(100)] -= 0.2
    naive = np.array([min(range(4), key=lambda k: losses[k, i]) for i in range(100)])
    np.testing.assert_array_equal(likely_sources(losses), naive)
    shown = source_accuracy(likely_sources(losses), source, clients=4)
    assert shown.right.lo > 0.6
    assert shown.p_value < 1e-6
    clustered = source_accuracy(likely_sources(losses), source, clients=4, owner=np.repeat(np.arange(20), 5))
    assert clustered.right.value == shown.right.value


def test_ties_between_clients_are_broken_by_a_coin():
    """Models that are all the same tell nothing, and the first client gets no more than the others."""
    guess = likely_sources(np.ones((4, 4000)), seed=1)
    counts = np.bincount(guess, minlength=4)
    assert counts.min() > 850
    np.testing.assert_array_equal(guess, likely_sources(np.ones((4, 4000)), seed=1))
    for wrong in (np.ones((1, 3)), np.full((2, 2), np.nan), np.ones(3)):
        with pytest.raises(BadInput):
            likely_sources(wrong)
