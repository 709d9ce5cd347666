# SPDX-License-Identifier: Apache-2.0
"""Local training: one step of all clients is one step on all their texts, and a round is the same when run again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reticent.federated.aggregate.mean import mean
from reticent.federated.client_training import LocalTraining, batches, client_seed, train_locally
from reticent.federated.exchange.arrays import put_into, taken_from, trained
from reticent.federated.local_grid import LocalGrid
from reticent.models.encode import EncodedRecord
from reticent.models.tuning.method import TUNINGS
from reticent.testing.tiny import tiny_model
from reticent.train.batches import collate

STEP = LocalTraining(steps=1, batch_size=4, learning_rate=0.1, optimizer="sgd")


def rows(count: int, tokens: int = 12) -> list[EncodedRecord]:
    rng = np.random.default_rng(0)
    return [
        EncodedRecord(token_id=rng.integers(0, 250, tokens).astype(np.int32), trained=np.ones(tokens, dtype=bool))
        for _ in range(count)
    ]


@pytest.mark.parametrize("method", ["full", "lora", "ia3"])
def test_one_step_of_all_clients_is_one_step_on_all_texts(method: str) -> None:
    torch.manual_seed(0)
    model = TUNINGS.get(method)(tiny_model())
    begin = taken_from(model)
    texts = rows(8)
    clients = [texts[number : number + 2] for number in range(0, 8, 2)]
    grid = LocalGrid(model, [f"c{number}" for number in range(4)], clients, STEP, seed=0)
    aggregate = mean((message.update for message in grid.ask(1, range(4), begin)), denominator=4)

    put_into(model, begin)
    model.train()
    model.zero_grad()
    model(**collate(texts, pad=0)).loss.backward()
    for name, parameter in trained(model).items():
        assert parameter.grad is not None
        torch.testing.assert_close(aggregate[name], -0.1 * parameter.grad, rtol=1e-5, atol=2e-7)


def test_a_round_that_is_run_again_gives_the_same_updates() -> None:
    torch.manual_seed(0)
    model = TUNINGS.get("lora")(tiny_model(), dropout=0.3)
    begin = taken_from(model)
    how = LocalTraining(steps=3, batch_size=2, learning_rate=1e-2)
    grid = LocalGrid(model, ["ana", "ben"], [rows(5), rows(4)], how, seed=1)
    first = [message.update for message in grid.ask(2, [0, 1], begin)]
    torch.manual_seed(99)
    other = [message.update for message in grid.ask(2, [1], begin)]
    assert all(torch.equal(first[1][name], other[0][name]) for name in begin)
    later = [message.update for message in grid.ask(3, [1], begin)]
    assert any(not torch.equal(first[1][name], later[0][name]) for name in begin)


def test_fedprox_holds_clients_back() -> None:
    torch.manual_seed(0)
    model = TUNINGS.get("full")(tiny_model())
    begin = taken_from(model)
    lengths = []
    for proximal in (0.0, 5.0):
        put_into(model, begin)
        how = LocalTraining(steps=8, batch_size=2, learning_rate=0.1, optimizer="sgd", proximal=proximal)
        update = train_locally(model, rows(4), how, seed=3)
        lengths.append(sum(float(array.square().sum()) for array in update.values()))
    assert lengths[1] < 0.8 * lengths[0]


def test_each_row_comes_once_before_any_comes_again() -> None:
    how = LocalTraining(steps=7, batch_size=2, learning_rate=1.0)
    order = [row for batch in batches(7, how, client_seed(0, 1, "ana")) for row in batch]
    assert sorted(order[:7]) == list(range(7))
    assert sorted(order[7:]) == list(range(7))
    assert [len(batch) for batch in batches(1, how, 0)] == [1] * 7


def test_a_client_without_a_row_changes_nothing() -> None:
    model = TUNINGS.get("head")(tiny_model())
    update = train_locally(model, [], STEP, seed=0)
    assert all(not array.any() for array in update.values())
