# SPDX-License-Identifier: Apache-2.0
"""Stacked LoRA factors: the mean of the clients' products, exactly, as one product of all ranks together (FLoRA).

``(1/n) Σ B_k A_k = [B_1 … B_n] / n · [A_1; …; A_n]``. In each round clients begin with factors of their own, B at zero,
on a base that has all earlier products in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from reticent.federated.client_training import client_seed
from reticent.federated.exchange.lora_factors_mean import is_first_factor, pairs_of
from reticent.federated.update import Update

_ROUND = "{:05d}|"


def begin_factors(arrays: Update, seed: int, round_: int) -> dict[str, torch.Tensor]:
    """The factors that all clients of a round begin with: A uniform within 1 / √in, as PEFT draws it, B zero.

    Args:
        arrays: of the names and shapes that are wanted.
        seed: of the federation.
        round_: number of the round, from 1.

    Examples:
        >>> like = {"q.lora_A.x": torch.zeros(2, 4), "q.lora_B.x": torch.zeros(3, 2)}
        >>> drawn = begin_factors(like, 0, 1)
        >>> float(drawn["q.lora_A.x"].abs().max()) <= 0.5, float(drawn["q.lora_B.x"].abs().max())
        (True, 0.0)
    """
    generator = torch.Generator().manual_seed(client_seed(seed, round_, "factors"))
    drawn = {}
    for name in sorted(arrays):
        shape = arrays[name].shape
        if is_first_factor(name):
            drawn[name] = (2 * torch.rand(shape, generator=generator) - 1) / shape[1] ** 0.5
        else:
            drawn[name] = torch.zeros(shape)
    return drawn


def stack(start: Update, updates: Sequence[Update], denominator: float) -> dict[str, torch.Tensor]:
    """The factors of ``Σ B_k A_k / denominator``.

    Args:
        start: the round's factors.
        updates: of the clients.
        denominator: expected clients; one that did not answer counts as a product of zero.

    Returns:
        ``A [Σ r, in]`` and ``B [out, Σ r]`` for each adapted matrix; the rank adds up.

    Examples:
        >>> start = {"q.lora_A.x": torch.tensor([[1.0]]), "q.lora_B.x": torch.tensor([[0.0]])}
        >>> one = {"q.lora_A.x": torch.tensor([[1.0]]), "q.lora_B.x": torch.tensor([[4.0]])}
        >>> two = {"q.lora_A.x": torch.tensor([[0.0]]), "q.lora_B.x": torch.tensor([[2.0]])}
        >>> both = stack(start, [one, two], 2)
        >>> (both["q.lora_B.x"] @ both["q.lora_A.x"]).item()  # half of 4 · 2, half of 2 · 1
        5.0
    """
    stacked = {}
    for a, b in pairs_of(start).values():
        stacked[a] = torch.cat([start[a] + update[a] for update in updates], dim=0)
        stacked[b] = torch.cat([(start[b] + update[b]) / denominator for update in updates], dim=1)
    return stacked


@torch.no_grad()
def merge(model: Any, factors: Update) -> None:
    """Add the product of factors to the base weights under a LoRA adapter, which is changed in place."""
    for matrix, (a, b) in pairs_of(factors).items():
        layer = model.get_submodule(matrix)
        weight = layer.get_base_layer().weight
        product = (factors[b] @ factors[a] * next(iter(layer.scaling.values()))).to(weight)
        weight.add_(product.T if layer.fan_in_fan_out else product)


def with_round(stacks: Update, round_: int, factors: Update) -> dict[str, torch.Tensor]:
    """All stacks so far, with those of one more round."""
    return {**stacks, **{_ROUND.format(round_) + name: array for name, array in factors.items()}}


def by_round(stacks: Update) -> list[dict[str, torch.Tensor]]:
    """The stacks of each round, in order, so that they can be merged again as they were.

    >>> [list(factors) for factors in by_round(with_round({}, 1, {"q": torch.zeros(1)}))]
    [['q']]
    """
    rounds: dict[str, dict[str, torch.Tensor]] = {}
    for full in sorted(stacks):
        round_, _, name = full.partition("|")
        rounds.setdefault(round_, {})[name] = stacks[full]
    return [rounds[round_] for round_ in sorted(rounds)]


def all_rounds(stacks: Update) -> dict[str, torch.Tensor]:
    """The factors of the sum of all rounds' products."""
    rounds = by_round(stacks)
    return {
        name: torch.cat([factors[name] for factors in rounds], dim=0 if is_first_factor(name) else 1)
        for name in rounds[0]
    }


def params_for(params: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """The hyper-parameters of a LoRA adapter of another rank with the same scale.

    >>> params_for({"r": 4, "alpha": 8.0}, 12)
    {'r': 12, 'alpha': 24.0}
    """
    return {**params, "r": rank, "alpha": float(params["alpha"]) / int(params["r"]) * rank}
