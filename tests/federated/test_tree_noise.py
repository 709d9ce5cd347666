# SPDX-License-Identifier: Apache-2.0
"""The noise of a tree: that of the sums so far, accounted for as one Gaussian, restarted in each pass."""

import numpy as np
import pytest
import torch
from dp_accounting import NeighboringRelation, dp_event
from dp_accounting.rdp import RdpAccountant

from reticent.federated.tree_noise import height, nodes_of, prefix_nodes, squared_shift
from reticent.privacy.noise import normals
from reticent.testing.made_up_federation import KEY, made_up_mechanism


@pytest.mark.parametrize("pass_length", [1, 2, 5, 8, 13])
def test_noises_of_rounds_add_up_to_those_of_the_nodes_of_all_rounds_so_far(pass_length):
    gained = {}
    for number in range(2 * pass_length + 1):
        if number % pass_length == 0:
            gained = {}
        for node in nodes_of(number, pass_length):
            gained[node.step] = gained.get(node.step, 0) + node.sign
        assert {step for step, sign in gained.items() if sign} == set(prefix_nodes(number, pass_length))
        assert set(gained.values()) <= {0, 1}


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 7, 8, 12])
def test_a_round_is_in_at_most_so_many_nodes_as_are_accounted_for(rounds):
    """Counted from the nodes' own numbers: level and last round."""
    nodes = {step for number in range(rounds) for step in prefix_nodes(number, rounds)}
    covering = [sum(step // 64 - 2 ** (step % 64) < leaf <= step // 64 for step in nodes) for leaf in range(rounds)]
    assert max(covering) == height(rounds)


def test_no_two_nodes_share_their_noise():
    steps = [node.step for number in range(60) for node in nodes_of(number, 20) if node.sign > 0]
    assert len(set(steps)) == len(steps) == 60


def test_what_leaves_is_the_sum_with_the_noise_of_the_tree():
    plan = made_up_mechanism(sampling="shuffled", noise_multiplier=4.0, rounds=4)
    like = {"a": torch.zeros(300)}
    so_far = np.zeros(300)
    for number in range(4):
        so_far += plan.open_round(number, 0.5, like).close().mean["a"].double().numpy() * 15
        steps = prefix_nodes(number, plan.pass_length)
        drawn = sum(normals(KEY, step, 0, np.arange(2)).ravel()[:300] for step in steps)
        np.testing.assert_allclose(so_far, 4.0 * 0.5 * drawn, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("clients", "expected", "rounds", "noise", "delta"),
    [(98, 20, 30, 10.0, 1e-3), (2000, 200, 30, 10.0, 1e-5), (60, 15, 6, 4.0, 1e-3), (50, 1, 50, 5.0, 1e-3)],
)
def test_the_cost_is_that_of_dp_accountings_tree(clients, expected, rounds, noise, delta):
    """Its Rényi number is the same as our second one; ε itself is a little smaller, by privacy loss distributions."""
    plan = made_up_mechanism(
        clients=clients, expected=expected, rounds=rounds, noise_multiplier=noise, delta=delta, sampling="shuffled"
    )
    passes, rest = divmod(rounds, plan.pass_length)
    accountant = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_SPECIAL)
    tree = dp_event.SingleEpochTreeAggregationDpEvent(noise, plan.pass_length)
    accountant.compose(dp_event.SelfComposedDpEvent(tree, passes))
    if rest:
        accountant.compose(dp_event.SingleEpochTreeAggregationDpEvent(noise, rest))
    cost = plan.epsilon()
    assert cost.check == pytest.approx(accountant.get_epsilon(delta), rel=5e-3)
    assert 0.8 * cost.check < cost.epsilon < cost.check


def test_early_rounds_of_a_pass_cost_less_and_restarts_cost_more():
    assert [squared_shift(rounds, 4) for rounds in range(9)] == [0, 1, 2, 2, 3, 4, 5, 5, 6]
    plan = made_up_mechanism(sampling="shuffled", noise_multiplier=4.0)
    assert plan.epsilon(1).epsilon < plan.epsilon(4).epsilon < plan.epsilon(5).epsilon
