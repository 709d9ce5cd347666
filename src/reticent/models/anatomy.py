# SPDX-License-Identifier: Apache-2.0
"""Where the parts of a Hugging Face causal language model are, whatever its family calls them."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.core.errors import BadInput


def transformer_blocks(model: nn.Module) -> nn.ModuleList:
    """The list of transformer blocks.

    Raises:
        BadInput: there is none, or more than one list could be it.
    """
    wanted = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == wanted]
    outer = [m for m in lists if not any(m is not other and _holds(other, m) for other in lists)]
    if len(outer) != 1:
        raise BadInput(type(model).__name__, "has no single list of transformer blocks", "Use full, head or lora.")
    return outer[0]


def output_matrix(model: Any) -> nn.Module:
    """The layer that turns hidden states into logits.

    Raises:
        BadInput: there is none.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise BadInput(type(model).__name__, "has no output matrix", "Use a causal language model.")
    layer: nn.Module = head
    return layer


def is_tied(model: Any) -> bool:
    """Whether the output matrix is the input embedding."""
    return output_matrix(model).weight is model.get_input_embeddings().weight


def has_conv1d(model: nn.Module) -> bool:
    """Whether weights are stored transposed, as in GPT-2."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    return any(module is inner for module in outer.modules())
