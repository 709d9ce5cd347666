# SPDX-License-Identifier: Apache-2.0
"""The weight matrices of a model's MLPs, by the names that families give them."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.core.errors import BadInput
from reticent.models.anatomy import transformer_blocks

NAMES = frozenset(
    {
        *("gate_proj", "up_proj", "down_proj", "gate_up_proj"),  # Llama and those after it, Phi-3, MPT
        *("c_fc", "c_proj", "fc_in", "fc_out", "fc1", "fc2"),  # GPT-2, GPT-Neo, StarCoder 2, GPT-J, OPT, Phi
        *("dense_h_to_4h", "dense_4h_to_h", "w1", "w2", "w3"),  # GPT-NeoX, BLOOM, Falcon; experts of Mixtral
    }
)


def mlp_matrices(model: nn.Module) -> dict[str, Any]:
    """The linear layers of the MLPs in a model's blocks, by their names in the model.

    Raises:
        BadInput: there is none of a known name, as where experts are kept as one tensor.

    Examples:
        >>> from reticent.testing.tiny import tiny_model
        >>> sorted(name.removeprefix("transformer.") for name in mlp_matrices(tiny_model("gpt2")))
        ['h.0.mlp.c_fc', 'h.0.mlp.c_proj', 'h.1.mlp.c_fc', 'h.1.mlp.c_proj']
    """
    inside = {id(module) for module in transformer_blocks(model).modules()}
    layers = {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D) and _is_of_an_mlp(name)
    }
    if not layers:
        raise BadInput(
            type(model).__name__,
            f"has no matrices of MLPs by any of the names {', '.join(sorted(NAMES))}",
            "Choose an unlearning method for all weights, such as npo.",
        )
    return layers


def _is_of_an_mlp(name: str) -> bool:
    """GPT-2 calls a matrix of its attention and one of its MLP alike."""
    *above, last = name.split(".")
    return last in NAMES and not any("attn" in part or "attention" in part for part in above)
