# SPDX-License-Identifier: Apache-2.0
"""Embeddings of tokens, positions and virtual tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from reticent.core.errors import BadInput
from reticent.privacy.clip.rule import layer_rule
from reticent.privacy.clip.tape import Tape

_ARGUMENTS = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
"""Of ``F.embedding``, in order."""


@layer_rule(
    "embedding",
    matches=lambda module: isinstance(module, nn.Embedding),
    parameters=("weight",),
    example=lambda: nn.Embedding(20, 8),
)
def embedding(module: Any, tape: Tape, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Row ``index_t`` of the weight: its gradient gets the gradient of what was looked up for token t.

    A subclass may compute the index (positions with an offset) and go on with what it looked up (embeddings times a
    constant): its own forward runs, and only the look-up in it is exchanged. A weight that it uses otherwise gets a
    gradient of its own, which is an error after the pass.
    """
    with _LookUp(module, tape):
        looked_up: torch.Tensor = type(module).forward(module, *args, **kwargs)
    return looked_up


class _LookUp(TorchFunctionMode):
    """Within it, looking up rows of the module's weight writes into the tape."""

    def __init__(self, module: nn.Embedding, tape: Tape) -> None:
        super().__init__()
        self.module, self.tape = module, tape

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        asked = dict(zip(_ARGUMENTS, args, strict=False)) | (kwargs or {})
        if func is not F.embedding or asked.get("weight") is not self.module.weight:
            return func(*args, **(kwargs or {}))
        if asked.get("max_norm") is not None or asked.get("scale_grad_by_freq") or asked.get("sparse"):
            raise BadInput(
                "an embedding with max_norm, scale_grad_by_freq or sparse",
                "mixes what belongs to different records",
                "Turn it off.",
            )
        index, padding = asked["input"], asked.get("padding_idx")
        if index.dim() < 2:
            raise BadInput(
                f"{type(self.module).__name__} that looks up {tuple(index.shape)}",
                "has one index for all records, so what belongs to whom is lost",
                'Freeze it, or take the slow exact loop: PrivateSpeed(impl="reference").',
            )
        # Positions come once for all rows; looked up row by row, each row has a gradient of its own.
        if index.shape[0] == 1:
            index = index.expand(self.tape.rows, *index.shape[1:])
        if padding is not None:
            padding %= self.module.num_embeddings
        return _Embedding.apply(self.module.weight, index, padding, self.tape)  # type: ignore[no-untyped-call]


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
