# SPDX-License-Identifier: Apache-2.0
"""Aggregation rules against naive loops, and what poisoned updates can do to them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.federated.aggregate.aggregator import AGGREGATORS
from reticent.federated.update import norm


def made(number, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [{"a": torch.randn(3, 2, generator=random), "b": torch.randn(4, generator=random)} for _ in range(number)]


def outcome(name, updates, **params):
    return AGGREGATORS.get(name)(iter(updates), denominator=6.0, **params)


def flat(update):
    return np.concatenate([update[name].double().numpy().ravel() for name in sorted(update)])


@settings(max_examples=20)
@given(st.integers(3, 9), st.integers(0, 1000), st.floats(0.1, 10))
def test_norm_bound_equals_a_naive_loop(number, seed, bound):
    updates = made(number, seed)
    total = 0
    for update in updates:
        length = np.sqrt((flat(update) ** 2).sum())
        total = total + flat(update) * min(1, bound / length)
    np.testing.assert_allclose(flat(outcome("norm_bound", updates, bound=bound)), total / 6, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", [3, 4, 7, 20])
def test_median_and_trimmed_mean_equal_naive_loops(number):
    updates = made(number)
    values = np.stack([flat(update) for update in updates])
    np.testing.assert_allclose(flat(outcome("median", updates)), np.median(values, axis=0), rtol=1e-6)
    cut = min(max(1, int(np.ceil(0.2 * number))), (number - 1) // 2)
    kept = np.sort(values, axis=0)[cut : number - cut].mean(axis=0)
    np.testing.assert_allclose(flat(outcome("trimmed_mean", updates, share=0.2)), kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("number", "faulty", "chosen"), [(5, 1, 1), (9, 3, 1), (9, 2, 4), (9, None, 2), (4, 9, 1)])
def test_krum_equals_a_naive_loop(number, faulty, chosen):
    updates = made(number)
    values = [flat(update) for update in updates]
    most = (number - 3) // 2
    near = number - (most if faulty is None else min(faulty, most)) - 2
    scores = []
    for one in range(number):
        distances = sorted(((values[one] - values[other]) ** 2).sum() for other in range(number) if other != one)
        scores.append(sum(distances[:near]))
    best = np.argsort(scores)[:chosen]
    expected = np.mean([values[place] for place in best], axis=0)
    found = outcome("krum", updates, faulty=faulty, chosen=chosen)
    np.testing.assert_allclose(flat(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum"])
def test_a_poisoned_update_does_not_carry_a_robust_rule_away(name):
    updates = [*made(9), {"a": torch.full((3, 2), 1e6), "b": torch.full((4,), 1e6)}]
    assert norm(outcome(name, updates)) < 10
    assert norm(outcome("mean", updates)) > 1e5
    assert norm(outcome("norm_bound", updates, bound=1.0)) <= 10 / 6 * 1.0001


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("norm_bound", {"bound": 0.0}),
        ("trimmed_mean", {"share": 0.5}),
        ("trimmed_mean", {"share": 0.0}),
        ("krum", {"chosen": 0}),
        ("krum", {"faulty": -1}),
    ],
)
def test_parameters_out_of_range_are_refused(name, params):
    with pytest.raises(BadInput):
        outcome(name, made(5), **params)
