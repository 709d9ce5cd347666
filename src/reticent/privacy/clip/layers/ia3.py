# SPDX-License-Identifier: Apache-2.0
"""PEFT's IA3: one trained factor for each channel of a frozen layer's input or output."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.ia3.layer import Linear
from torch import nn

from reticent.privacy.clip.rule import layer_rule
from reticent.privacy.clip.tape import Tape


def _example() -> nn.Module:
    from peft import IA3Config, inject_adapter_in_model

    config = IA3Config(target_modules=["0"], feedforward_modules=[])
    return inject_adapter_in_model(config, nn.Sequential(nn.Linear(8, 8)))[0]


@layer_rule(
    "ia3",
    matches=lambda module: type(module).forward is Linear.forward,
    parameters=("ia3_l",),
    example=_example,
)
def ia3(module: Any, tape: Tape, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``x ⊙ l`` before the layer, or ``y ⊙ l`` after it: the gradient is ``Σ_t g_t ⊙ x_t``."""
    if module.disable_adapters or module.merged:
        unscaled: torch.Tensor = type(module).forward(module, x, *args, **kwargs)
        return unscaled
    factors = [module.ia3_l[name] for name in module.active_adapters if name in module.ia3_l]
    scaled: torch.Tensor = x if module.is_feedforward else module.base_layer(x, *args, **kwargs)
    for factor in factors:
        scaled = _Scale.apply(scaled, factor, tape)  # type: ignore[no-untyped-call]
    return module.base_layer(scaled, *args, **kwargs) if module.is_feedforward else scaled


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: nn.Parameter, tape: Tape) -> torch.Tensor:
        ctx.tape, ctx.factor = tape, factor
        ctx.save_for_backward(x)
        return (x * factor.flatten()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = outer
        (x,) = ctx.saved_tensors
        if ctx.factor.requires_grad:
            product = (g.float() * x.float()).flatten(1, -2).sum(1)
            ctx.tape.dense(ctx.factor, product.unflatten(1, ctx.factor.shape))
        return (g * ctx.factor.flatten()).to(x.dtype) if ctx.needs_input_grad[0] else None, None, None
