# SPDX-License-Identifier: Apache-2.0
"""LayerNorm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from reticent.privacy.clip.rule import layer_rule
from reticent.privacy.clip.tape import Tape


@layer_rule(
    "layer_norm",
    matches=lambda module: type(module).forward is nn.LayerNorm.forward,
    parameters=("weight", "bias"),
    example=lambda: nn.LayerNorm(8),
)
def layer_norm(module: Any, tape: Tape, x: torch.Tensor) -> torch.Tensor:
    """``x̂ ⊙ w + b`` with x̂ normalised: the gradients are ``Σ_t g_t ⊙ x̂_t`` and ``Σ_t g_t``."""
    y: torch.Tensor = _LayerNorm.apply(x, module.weight, module.bias, module.normalized_shape, module.eps, tape)  # type: ignore[no-untyped-call]
    return y


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: nn.Parameter | None,
        bias: nn.Parameter | None,
        shape: tuple[int, ...],
        eps: float,
        tape: Tape,
    ) -> torch.Tensor:
        y, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, eps)
        ctx.tape, ctx.weight, ctx.bias, ctx.shape = tape, weight, bias, shape
        ctx.save_for_backward(x, mean, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = outer
        x, mean, rstd = ctx.saved_tensors
        inside = tuple(range(1, g.dim() - len(ctx.shape)))
        if ctx.weight is not None and ctx.weight.requires_grad:
            normalised = (x.float() - mean) * rstd
            ctx.tape.dense(ctx.weight, _over_tokens(g.float() * normalised, inside))
        if ctx.bias is not None and ctx.bias.requires_grad:
            ctx.tape.dense(ctx.bias, _over_tokens(g.float(), inside))
        back = None
        if ctx.needs_input_grad[0]:
            back = torch.ops.aten.native_layer_norm_backward(
                g.contiguous(), x, ctx.shape, mean, rstd, ctx.weight, ctx.bias, [True, False, False]
            )[0]
        return back, None, None, None, None, None


def _over_tokens(x: torch.Tensor, inside: tuple[int, ...]) -> torch.Tensor:
    return x.sum(inside) if inside else x
