# SPDX-License-Identifier: Apache-2.0
"""Linear layers, and with them LoRA's matrices, adapters and output matrices."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from reticent.privacy.clip.rule import layer_rule
from reticent.privacy.clip.tape import Tape
from reticent.privacy.clip.tried_out import computes


def _is_linear(module: nn.Module) -> bool:
    """``x Wᵀ + b``, whatever the class calls it: what is no plain linear layer is tried out (Falcon writes its own)."""
    if type(module).forward is nn.Linear.forward:
        return True
    if not isinstance(module, nn.Linear):
        return False
    return computes(
        module,
        (2, 3, module.in_features),
        lambda x, parameters: F.linear(x, parameters["weight"], parameters.get("bias")),
    )


@layer_rule("linear", matches=_is_linear, parameters=("weight", "bias"), example=lambda: nn.Linear(8, 8))
def linear(module: Any, tape: Tape, x: torch.Tensor) -> torch.Tensor:
    """``x Wᵀ + b``: per token, the output gradient times the input."""
    y: torch.Tensor = _Linear.apply(x, module.weight, module.bias, tape)  # type: ignore[no-untyped-call]
    return y


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: nn.Parameter, bias: nn.Parameter | None, tape: Tape) -> torch.Tensor:
        a, w = tape.cast(x), tape.cast_weight(weight)
        ctx.tape, ctx.weight, ctx.bias, ctx.dtype = tape, weight, bias, x.dtype
        ctx.save_for_backward(a, w)
        return F.linear(a, w, None if bias is None else tape.cast_weight(bias))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = outer
        a, w = ctx.saved_tensors
        if ctx.weight.requires_grad:
            ctx.tape.outer(ctx.weight, g, a)
        if ctx.bias is not None and ctx.bias.requires_grad:
            ctx.tape.dense(ctx.bias, g.flatten(1, -2).sum(1, dtype=torch.float32))
        return (g @ w).to(ctx.dtype) if ctx.needs_input_grad[0] else None, None, None, None
