# SPDX-License-Identifier: Apache-2.0
"""RMSNorm, in the forms of Llama (``w ⊙ x̂``) and Gemma (``(1 + w) ⊙ x̂``)."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from reticent.privacy.clip.rule import layer_rule
from reticent.privacy.clip.tape import Tape

_TOLERANCE = 1e-5

_known: WeakKeyDictionary[nn.Module, float | None] = WeakKeyDictionary()


def _eps(module: Any) -> float:
    eps = next((getattr(module, name) for name in ("variance_epsilon", "eps") if hasattr(module, name)), None)
    return float(torch.finfo(module.weight.dtype).eps if eps is None else eps)


def _offset(module: Any) -> float | None:
    """0 for ``w ⊙ x̂``, 1 for ``(1 + w) ⊙ x̂``, None for what is neither: tried out, since a name says too little."""
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, torch.Tensor) or weight.dim() != 1:
        return None
    if weight.device.type == "meta":
        return None
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, len(weight), generator=generator).to(weight.device)
    with torch.no_grad():
        given = type(module).forward(module, x).float()
        normalised = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + _eps(module))
        for offset in (0.0, 1.0):
            if torch.allclose(given, normalised * (offset + weight.float()), rtol=1e-2, atol=_TOLERANCE):
                return offset
    return None


@layer_rule(
    "rms_norm",
    matches=lambda module: _offset(module) is not None,
    parameters=("weight",),
    example=lambda: nn.RMSNorm(8),
)
def rms_norm(module: Any, tape: Tape, x: torch.Tensor) -> torch.Tensor:
    """``(offset + w) ⊙ x̂`` with ``x̂ = x / rms(x)``: the gradient is ``Σ_t g_t ⊙ x̂_t``."""
    if module not in _known:
        _known[module] = _offset(module)
    offset = _known[module]
    y: torch.Tensor = _RMSNorm.apply(x, module.weight, _eps(module), offset, tape)  # type: ignore[no-untyped-call]
    return y


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: nn.Parameter, eps: float, offset: float, tape: Tape) -> torch.Tensor:
        wide = x.float()
        rstd = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        gain = weight if offset == 0 else weight.float() + offset
        ctx.tape, ctx.weight, ctx.offset = tape, weight, offset
        ctx.save_for_backward(x, rstd)
        if offset == 0:
            return gain * (wide * rstd).to(x.dtype)
        return (wide * rstd * gain).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = outer
        x, rstd = ctx.saved_tensors
        normalised = x.float() * rstd
        product = g.float() * normalised
        if ctx.weight.requires_grad:
            inside = tuple(range(1, g.dim() - 1))
            ctx.tape.dense(ctx.weight, product.sum(inside) if inside else product)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None
        gain = ctx.weight.float() + ctx.offset
        along = torch.mv(product.flatten(0, -2), gain).view(rstd.shape) / x.shape[-1]
        back = torch.addcmul(g.float() * gain, normalised, along, value=-1).mul_(rstd)
        return back.to(x.dtype), None, None, None, None
