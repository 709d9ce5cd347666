# SPDX-License-Identifier: Apache-2.0
"""Rounding to few bits: how a model answers when its weights are stored coarsely.

Small changes of weights fall between two steps of the grid and vanish: what was unlearned comes back, and what was
hidden between the steps wakes. Each output row of a matrix has a grid of its own, symmetric about 0 (absolute maximum),
to the nearest step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.core import validate
from reticent.models import adapters


def rounded(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """The matrix on a symmetric grid of ``2^bits - 1`` steps for each row, to the nearest step.

    Args:
        weight: ``[out, in]``, any floating type.
        bits: from 2 to 8.

    Returns:
        ``[out, in]`` of the same type; rows of zeros stay zeros.

    Examples:
        >>> rounded(torch.tensor([[0.0, 0.3, -0.7]]), 4)
        tensor([[ 0.0000,  0.3000, -0.7000]])
        >>> rounded(torch.tensor([[0.04, 0.7]]), 4)
        tensor([[0.0000, 0.7000]])
    """
    validate.in_range(1, 8, bits=bits)
    most = 2 ** (bits - 1) - 1
    wide = weight.detach().float()
    step = wide.abs().amax(dim=1, keepdim=True) / most
    safe = torch.where(step > 0, step, torch.ones_like(step))
    return ((wide / safe).round().clamp(-most, most) * safe).to(weight.dtype)


def rounded_slowly(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """The slow, obvious way of `rounded`: each number goes to the nearest of all steps."""
    most = 2 ** (bits - 1) - 1
    rows = []
    for row in weight.tolist():
        step = max(abs(value) for value in row) / most
        grid = [code * step for code in range(-most, most + 1)]
        rows.append([min((abs(value - place), place) for place in grid)[1] for value in row])
    return torch.tensor(rows, dtype=weight.dtype)


@contextmanager
def merged_and_rounded(model: Any, bits: int) -> Iterator[None]:
    """Within this context all linear layers but the output layer answer with rounded weights, the adapter merged.

    The weights are put back afterwards, to the bit.
    """
    peft = hasattr(model, "merge_adapter")
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    if peft:
        model.merge_adapter()
    try:
        with torch.no_grad():
            for module in matrices(model):
                _round(weight_of(module), bits, transposed=isinstance(module, Conv1D))
        yield
    finally:
        if peft:
            model.unmerge_adapter()
        _restore(model, before)


@contextmanager
def adapter_rounded(model: Any, bits: int) -> Iterator[None]:
    """Within this context the matrices of the adapter are rounded, those of the base are not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim == 2]
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                _round(parameter, bits)
        yield
    finally:
        with torch.no_grad():
            for parameter, tensor in zip(parameters, before, strict=True):
                parameter.copy_(tensor)


def matrices(model: Any) -> Iterator[nn.Module]:
    """Linear layers of the model, without the output layer and without matrices of adapters that are merged."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = core.get_output_embeddings()
    beyond = {id(parameter) for parameter in head.parameters()} if isinstance(head, nn.Module) else set()
    adapter = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    whole = not adapters.can_switch_off(model)
    for module in core.modules():
        if not isinstance(module, nn.Linear | Conv1D) or id(module.weight) in beyond:
            continue
        if whole or id(module.weight) not in adapter:
            yield module


def weight_of(module: nn.Module) -> torch.Tensor:
    """The matrix of a linear layer."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _round(weight: torch.Tensor, bits: int, *, transposed: bool = False) -> None:
    rows = weight.data.T if transposed else weight.data
    coarse = rounded(rows, bits)
    weight.data.copy_(coarse.T if transposed else coarse)


def _restore(model: Any, before: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(before[name])
