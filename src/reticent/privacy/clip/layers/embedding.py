# SPDX-License-Identifier: Apache-2.0
"""Embeddings of tokens, positions and virtual tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from reticent.core.errors import BadInput
from reticent.privacy.clip.rule import layer_rule
from reticent.privacy.clip.tape import Tape


def _is_scaled(module: nn.Module) -> bool:
    """Gemma's embedding, which multiplies what it looks up by a constant."""
    return isinstance(module, nn.Embedding) and type(module).__name__.endswith("ScaledWordEmbedding")


@layer_rule(
    "embedding",
    matches=lambda module: type(module).forward is nn.Embedding.forward or _is_scaled(module),
    parameters=("weight",),
)
def embedding(module: Any, tape: Tape, index: torch.Tensor) -> torch.Tensor:
    """Row ``index_t`` of the weight: its gradient gets the output gradient of token t."""
    if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        raise BadInput(
            "an embedding with max_norm, scale_grad_by_freq or sparse",
            "mixes what belongs to different records",
            "Turn it off.",
        )
    # Positions come once for all rows; looked up row by row, each row has a gradient of its own.
    if index.shape[0] == 1:
        index = index.expand(tape.rows, *index.shape[1:])
    looked_up: torch.Tensor = _Embedding.apply(module.weight, index, module.padding_idx, tape)  # type: ignore[no-untyped-call]
    return looked_up * module.embed_scale.to(looked_up.dtype) if _is_scaled(module) else looked_up


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: nn.Parameter, index: torch.Tensor, padding: int | None, tape: Tape) -> torch.Tensor:
        ctx.tape, ctx.weight, ctx.padding = tape, weight, padding
        ctx.save_for_backward(index)
        return F.embedding(index, weight)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[None, ...]:
        (g,) = outer
        (index,) = ctx.saved_tensors
        if ctx.padding is not None:
            g = g.masked_fill((index == ctx.padding)[..., None], 0)
        ctx.tape.rows_of(ctx.weight, index, g)
        return None, None, None, None
