# SPDX-License-Identifier: Apache-2.0
"""Layer norms that a family writes itself: Cohere's (no bias, and a weight for each head), Nemotron's (``1 + w``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from reticent.privacy.clip.rule import layer_rule
from reticent.privacy.clip.tape import Tape
from reticent.privacy.clip.tried_out import computes

_known: WeakKeyDictionary[nn.Module, float | None] = WeakKeyDictionary()


def _normalised(x: torch.Tensor, eps: float) -> torch.Tensor:
    wide = x.float()
    centred = wide - wide.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)


def _eps(module: Any) -> float | None:
    eps = next((getattr(module, name) for name in ("variance_epsilon", "eps") if hasattr(module, name)), None)
    return float(eps) if isinstance(eps, (int, float)) else None


def _offset(module: Any) -> float | None:
    """0 for ``w ⊙ x̂ + b``, 1 for ``(1 + w) ⊙ x̂ + b``, None for what is neither: tried out."""
    weight, eps = getattr(module, "weight", None), _eps(module)
    if not isinstance(weight, torch.Tensor) or weight.dim() not in (1, 2) or eps is None:
        return None

    def formula(offset: float) -> Any:
        def norm(x: torch.Tensor, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return (offset + parameters["weight"]) * _normalised(x, eps) + parameters.get("bias", torch.zeros(()))

        return norm

    return next((offset for offset in (0.0, 1.0) if computes(module, (2, 3, *weight.shape), formula(offset))), None)


def _is_layer_norm(module: nn.Module) -> bool:
    if type(module).forward is nn.LayerNorm.forward:
        return False
    _known[module] = _offset(module)
    return _known[module] is not None


def _example() -> nn.Module:
    from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P

    return NemotronLayerNorm1P(8)


@layer_rule("written_layer_norm", matches=_is_layer_norm, parameters=("weight", "bias"), example=_example)
def written_layer_norm(module: Any, tape: Tape, x: torch.Tensor) -> torch.Tensor:
    """``(offset + w) ⊙ x̂ + b``, with a weight ``[D]`` or ``[heads, D]``: the gradients are ``Σ_t g_t ⊙ x̂_t`` and
    ``Σ_t g_t``."""
    eps = _eps(module)
    assert eps is not None
    y: torch.Tensor = _Gain.apply(  # type: ignore[no-untyped-call]
        _normalised(x, eps), module.weight, getattr(module, "bias", None), _known[module], tape
    )
    return y.to(x.dtype)


class _Gain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: nn.Parameter, bias: nn.Parameter | None, offset: float, tape: Tape
    ) -> torch.Tensor:
        gain = weight.float() + offset
        ctx.tape, ctx.weight, ctx.bias, ctx.offset = tape, weight, bias, offset
        ctx.save_for_backward(x)
        return x * gain if bias is None else torch.addcmul(bias.float(), x, gain)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = outer
        (x,) = ctx.saved_tensors
        inside = tuple(range(1, g.dim() - ctx.weight.dim()))
        if ctx.weight.requires_grad:
            ctx.tape.dense(ctx.weight, _over_tokens(g * x, inside))
        if ctx.bias is not None and ctx.bias.requires_grad:
            ctx.tape.dense(ctx.bias, _over_tokens(g, inside))
        back = g * (ctx.weight.float() + ctx.offset) if ctx.needs_input_grad[0] else None
        return back, None, None, None, None


def _over_tokens(x: torch.Tensor, inside: tuple[int, ...]) -> torch.Tensor:
    return x.sum(inside) if inside else x
