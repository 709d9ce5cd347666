# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's Conv1D (GPT-2): a linear layer whose weight lies the other way round, ``[p, d]``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.privacy.clip.rule import layer_rule
from reticent.privacy.clip.tape import Tape


@layer_rule(
    "conv1d", matches=lambda module: type(module) is Conv1D, parameters=("weight", "bias"), example=lambda: Conv1D(8, 8)
)
def conv1d(module: Any, tape: Tape, x: torch.Tensor) -> torch.Tensor:
    """``x W + b``: per token, the input times the output gradient."""
    y: torch.Tensor = _Conv1D.apply(x, module.weight, module.bias, tape)  # type: ignore[no-untyped-call]
    return y


class _Conv1D(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: nn.Parameter, bias: nn.Parameter, tape: Tape) -> torch.Tensor:
        a, w = tape.cast(x), tape.cast_weight(weight)
        ctx.tape, ctx.weight, ctx.bias, ctx.dtype = tape, weight, bias, x.dtype
        ctx.save_for_backward(a, w)
        flat = torch.addmm(tape.cast_weight(bias), a.reshape(-1, a.shape[-1]), w)
        return flat.view(*x.shape[:-1], w.shape[1])

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = outer
        a, w = ctx.saved_tensors
        if ctx.weight.requires_grad:
            ctx.tape.outer(ctx.weight, a, g)
        if ctx.bias.requires_grad:
            ctx.tape.dense(ctx.bias, g.flatten(1, -2).sum(1, dtype=torch.float32))
        return (g @ w.t()).to(ctx.dtype) if ctx.needs_input_grad[0] else None, None, None, None
