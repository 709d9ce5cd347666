# SPDX-License-Identifier: Apache-2.0
"""The parameters of a model's blocks that LoRA leaves as they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from reticent.core.errors import BadInput
from reticent.models.anatomy import text_part, transformer_blocks

_NO_MATRICES = (nn.Embedding, nn.Conv1d, nn.Conv2d)
_WORTH_A_WORD = 0.01
"""Share of the weights below which a matrix is not named: routers, decays of state-space layers."""


@dataclass(frozen=True, kw_only=True)
class UnadaptedMatrices:
    """Matrices without an update.

    Args:
        names: paths within a block, numbers left out, such as ``mlp.experts.down_proj``.
        share: of all weights of matrices in the blocks, in [0, 1].
    """

    names: tuple[str, ...]
    share: float


def unadapted(tuned: Any) -> UnadaptedMatrices:
    """The matrices in the transformer blocks of a model with LoRA that have no update.

    Embeddings, convolutions and what makes up less than a hundredth of the weights are not counted. Where a model has
    no single list of blocks, all of its text part but the output matrix is looked at.
    """
    core = tuned.get_base_model() if hasattr(tuned, "get_base_model") else tuned
    head = core.get_output_embeddings()
    beyond = {id(parameter) for parameter in head.parameters()} if isinstance(head, nn.Module) else set()
    try:
        part: nn.Module = transformer_blocks(core)
    except BadInput:
        part = text_part(core)
    without: dict[str, int] = {}
    total = 0
    for owner, module in part.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            counts = parameter.dim() > 1 and id(parameter) not in beyond and not isinstance(module, _NO_MATRICES)
            counts = counts and not name.endswith("bias")
            if not counts or parameter.requires_grad:
                continue
            total += parameter.numel()
            if "base_layer" not in owner.split("."):
                path = [
                    piece for piece in (*owner.split("."), name) if piece and not piece.isdigit() and piece != "weight"
                ]
                without[".".join(path)] = without.get(".".join(path), 0) + parameter.numel()
    named = {name: size for name, size in without.items() if size >= _WORTH_A_WORD * total}
    return UnadaptedMatrices(names=tuple(sorted(named)), share=sum(named.values()) / max(total, 1))
