# SPDX-License-Identifier: Apache-2.0
"""Activity against reading each text by itself, silencing against pruning, and pruning against the gradient."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.repair.neurons import last_matrices, neuron_activity, prune, quietest, silenced
from reticent.testing.tiny import tiny_model, tiny_tokenizer

TEXTS = ("a", "the quick brown fox", "Ann likes tea with milk", "12 34")


def keep_input(caught, name, _, inputs, __):
    caught[name] = inputs[0]


def rows():
    return [encode(Record(id=text, text=text), tiny_tokenizer()) for text in TEXTS]


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_activity_is_the_mean_over_tokens_of_texts_by_themselves(arch):
    model = tiny_model(arch, seed=3)
    activity = neuron_activity(model, rows(), size=3)
    sums: dict[str, torch.Tensor] = {}
    count = 0
    for row in rows():
        caught: dict[str, torch.Tensor] = {}
        hooks = [
            matrix.register_forward_hook(partial(keep_input, caught, name))
            for name, matrix in last_matrices(model).items()
        ]
        with torch.no_grad():
            model(input_ids=torch.tensor([row.token_id.tolist()]))
        for hook in hooks:
            hook.remove()
        count += len(row)
        for name, hidden in caught.items():
            for token in hidden[0]:
                sums[name] = sums.get(name, 0) + token.double().abs()
    assert activity.keys() == sums.keys()
    for name, values in activity.items():
        assert torch.allclose(values, sums[name] / count, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_pruned_neurons_are_silent_ones_and_get_no_gradient(arch):
    model = tiny_model(arch, seed=3)
    batch = torch.tensor([rows()[2].token_id.tolist()])
    chosen = quietest(neuron_activity(model, rows()), 0.25)
    with torch.no_grad():
        whole = model(input_ids=batch).logits
        with silenced(model, chosen):
            silent = model(input_ids=batch).logits
        assert torch.equal(model(input_ids=batch).logits, whole)
        assert not torch.allclose(silent, whole, atol=1e-6)
        count = prune(model, chosen)
        assert torch.allclose(model(input_ids=batch).logits, silent, atol=1e-6)
    assert count == sum(len(places) for places in chosen.values()) > 0
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    moved = model.state_dict()
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    assert neuron_activity(model, rows()).keys() == chosen.keys()
    for name, values in neuron_activity(model, rows()).items():
        assert not values[chosen[name]].any()


def test_quietest_takes_the_same_share_of_each_and_none_of_nothing():
    activity = {"a": torch.tensor([0.3, 0.1, 0.2]), "b": torch.arange(10.0)}
    assert {name: places.tolist() for name, places in quietest(activity, 0.34).items()} == {"a": [1], "b": [0, 1, 2]}
    assert all(len(places) == 0 for places in quietest(activity, 0).values())
