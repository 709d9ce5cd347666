# SPDX-License-Identifier: Apache-2.0
"""Local training: some optimizer steps of one client from the round's global arrays, and the update that comes of it.

The outcome is a function of (seed, round, client) and the arrays alone, so that a round that is run again after a kill
gives the same updates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reticent.federated.exchange.arrays import trained
from reticent.models.encode import EncodedRecord
from reticent.train.batches import collate


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """How a client trains.

    Args:
        steps: optimizer steps in a round.
        batch_size: records in a step; a client with fewer takes all of them.
        learning_rate: constant.
        optimizer: ``"sgd"`` without momentum, or ``"adamw"`` without weight decay, both begun anew in each round.
        proximal: FedProx's mu; 0 is off.
        pad: token id that fills up rows.
        bfloat16: compute in it; weights and update stay float32.

    Examples:
        >>> LocalTraining(steps=1, batch_size=4, learning_rate=0.1, optimizer="sgd").proximal
        0.0
    """

    steps: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adamw"
    proximal: float = 0.0
    pad: int = 0
    bfloat16: bool = False


def client_seed(seed: int, round_: int, client: str) -> int:
    """A seed of 63 bits for one client in one round.

    >>> client_seed(0, 1, "ana") != client_seed(0, 2, "ana")
    True
    """
    digest = hashlib.blake2b(f"{round_}\0{client}".encode(), key=str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def batches(count: int, how: LocalTraining, seed: int) -> Iterator[list[int]]:
    """The rows of each step: one permutation behind the other, each row once before any comes again.

    >>> how = LocalTraining(steps=2, batch_size=2, learning_rate=1.0)
    >>> sorted(row for batch in batches(4, how, 7) for row in batch)
    [0, 1, 2, 3]
    """
    rng = np.random.default_rng(seed)
    size = min(how.batch_size, count)
    waiting: list[int] = []
    for _ in range(how.steps):
        if len(waiting) < size:
            order = rng.permutation(count).tolist()
            # What the last pass left over comes late in this one, so that no batch has a row twice.
            waiting += sorted(order, key=waiting.__contains__)
        batch, waiting = waiting[:size], waiting[size:]
        yield batch


def train_locally(
    model: Any, rows: Sequence[EncodedRecord], how: LocalTraining, *, seed: int
) -> dict[str, torch.Tensor]:
    """Train a client, from the weights that the model has, and give what that added to each trained array.

    The loss of a step is the mean over the batch's trained tokens. The model is left with the client's weights.

    Args:
        model: with the round's global arrays in it; what is trained is marked.
        rows: the client's records, each with a token to predict.
        how: steps and optimizer.
        seed: of the order of rows and of dropout, see `client_seed`.

    Returns:
        The update, float32 on the CPU; zero for a client without a row. It holds numbers that are not finite where
        training diverged.
    """
    parameters = trained(model)
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer = make_optimizer(list(parameters.values()), how)
    model.train()
    device = next(iter(parameters.values())).device
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        for batch in batches(len(rows), how, seed) if rows else ():
            inputs = collate([rows[row] for row in batch], pad=how.pad)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=how.bfloat16):
                loss = model(**{name: value.to(device) for name, value in inputs.items()}).loss
            loss.backward()
            add_proximal(parameters, start, how.proximal)
            optimizer.step()
    return {name: (parameter.detach() - start[name]).float().cpu() for name, parameter in parameters.items()}


def make_optimizer(parameters: list[torch.nn.Parameter], how: LocalTraining) -> torch.optim.Optimizer:
    """The local optimizer, begun anew."""
    if how.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=how.learning_rate)
    return torch.optim.AdamW(parameters, lr=how.learning_rate, weight_decay=0.0)


def add_proximal(
    parameters: Mapping[str, torch.nn.Parameter], start: Mapping[str, torch.Tensor], proximal: float
) -> None:
    """Add the gradient of FedProx's term: mu times the way that was gone so far."""
    if not proximal:
        return
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - start[name], alpha=proximal)
