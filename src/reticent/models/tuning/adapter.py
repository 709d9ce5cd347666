# SPDX-License-Identifier: Apache-2.0
"""Bottleneck adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.anatomy import transformer_blocks
from reticent.models.held_weights import held_dtype
from reticent.models.tuning.method import tuning

NAME = "bottleneck"
"""Name of the added module within its block; nothing else of a model has it."""


class Bottleneck(nn.Module):
    """``h + W_up relu(W_down h)`` over hidden states ``[..., D]``; equal to ``h`` until trained."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner)
        self.up = nn.Linear(inner, width)
        self.enabled = True
        nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.enabled:
            return hidden
        out: torch.Tensor = hidden + self.up(torch.relu(self.down(hidden)))
        return out


@tuning("adapter", learning_rate=1e-3, storage="bottleneck", paper="arXiv:2005.00247", holds_base=True)
def adapter(model: Any, *, reduction_factor: int = 16) -> Any:
    """Train a bottleneck after the feed-forward part of each transformer block; all else stays as it was.

    The placing is Pfeiffer et al.'s, one adapter a block, on the block's output (feed-forward plus residual):
    ``h + W_up relu(W_down h)``, width ``D / reduction_factor``. The up-projection starts at zero, so that
    training starts from the base.

    Args:
        model: what to tune.
        reduction_factor: model width over the adapter's inner width; at least 1.

    Raises:
        BadInput: the inner width would be less than 1, or the model has adapters already.
    """
    validate.positive(reduction_factor=reduction_factor)
    width = model.get_input_embeddings().weight.shape[1]
    inner = int(width // reduction_factor)
    if inner < 1:
        raise BadInput(
            f"reduction_factor={reduction_factor}", f"exceeds the model's width {width}", "Choose a smaller one."
        )
    if has_bottlenecks(model):
        raise BadInput("adapter", "the model has bottleneck adapters already", "Give the base model.")
    for block in transformer_blocks(model):
        like = next(block.parameters())
        dtype = torch.float32 if held_dtype(block) else like.dtype
        block.add_module(NAME, Bottleneck(width, inner).to(device=like.device, dtype=dtype))
        block.register_forward_hook(_add_bottleneck)
    return model


def has_bottlenecks(model: nn.Module) -> bool:
    """True if adapters of this kind are on the model."""
    return any(isinstance(module, Bottleneck) for module in model.modules())


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Within this context the adapters let hidden states through unchanged."""
    bottlenecks = [module for module in model.modules() if isinstance(module, Bottleneck)]
    before = [module.enabled for module in bottlenecks]
    try:
        for module in bottlenecks:
            module.enabled = False
        yield
    finally:
        for module, enabled in zip(bottlenecks, before, strict=True):
            module.enabled = enabled


def _add_bottleneck(block: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    bottleneck = block.get_submodule(NAME)
    if isinstance(output, tuple):
        return (bottleneck(output[0]), *output[1:])
    return bottleneck(output)
