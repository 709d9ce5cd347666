# SPDX-License-Identifier: Apache-2.0
"""The server's step against its formulas; it reads the aggregate and its own moments, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.federated.server_optimizer import ServerOptimizer
from reticent.testing.made_up_federation import MadeUpFederation


def means(rounds=5):
    random = torch.Generator().manual_seed(0)
    return [{"a": torch.randn(3, 2, generator=random), "b": torch.randn(4, generator=random)} for _ in range(rounds)]


def changes(server, given):
    moments, made = {}, []
    for mean in given:
        moments, change = server(moments, mean)
        made.append(change)
    return made


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fedavg_with_momentum_equals_its_formula(momentum):
    given, kept = means(), 0.0
    for mean, change in zip(given, changes(ServerOptimizer(learning_rate=0.7, momentum=momentum), given), strict=True):
        kept = momentum * kept + mean["a"].double().numpy()
        np.testing.assert_allclose(change["a"].numpy(), 0.7 * kept, rtol=1e-5)


def test_fedavg_by_default_adds_the_mean_itself():
    given = means()
    for mean, change in zip(given, changes(ServerOptimizer(), given), strict=True):
        assert all(torch.equal(mean[name], change[name]) for name in mean)


def test_fedadam_equals_its_formula():
    given, first, second = means(), 0.0, 1e-6
    for mean, change in zip(given, changes(ServerOptimizer(name="fedadam", learning_rate=0.1), given), strict=True):
        array = mean["b"].double().numpy()
        first, second = 0.9 * first + 0.1 * array, 0.99 * second + 0.01 * array**2
        np.testing.assert_allclose(change["b"].numpy(), 0.1 * first / (np.sqrt(second) + 1e-3), rtol=1e-5)


@pytest.mark.parametrize("server", [ServerOptimizer(momentum=0.9), ServerOptimizer(name="fedadam", learning_rate=0.01)])
def test_the_step_acts_on_the_noised_mean_only(tmp_path, server):
    """The global arrays are what the noised means alone lead to; and moments go in and come out unchanged."""
    federation = MadeUpFederation(tmp_path, server=server)
    noised = []
    federation.given = lambda mean: noised.append(mean) or mean
    federation.run(3)
    moments, arrays = {}, {name: torch.zeros_like(array) for name, array in federation.arrays.items()}
    for mean in noised:
        before = {name: array.clone() for name, array in moments.items()}
        after, change = server(moments, mean)
        assert all(torch.equal(moments[name], before[name]) for name in before)
        moments, arrays = after, {name: arrays[name] + change[name] for name in arrays}
    assert all(torch.equal(arrays[name], federation.arrays[name]) for name in arrays)


def test_settings_of_a_federation_are_taken_over():
    settings = SimpleNamespace(server_optimizer="fedavg", server_rate=0.5, server_momentum=0.25)
    assert ServerOptimizer.of(settings) == ServerOptimizer(learning_rate=0.5, momentum=0.25)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "sgd"},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"name": "fedadam", "momentum": 0.9},
        {"least": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(BadInput):
        ServerOptimizer(**settings)
