# SPDX-License-Identifier: Apache-2.0
"""Where the parts of a Hugging Face causal language model are, whatever its family calls them."""

from __future__ import annotations

from typing import Any, cast

from torch import nn
from transformers.pytorch_utils import Conv1D

from reticent.core.errors import BadInput


def transformer_blocks(model: nn.Module) -> nn.ModuleList:
    """The list of transformer blocks.

    Raises:
        BadInput: there is none, or more than one list could be it.
    """
    refuse_ensemble(model, "transformer blocks")
    config: Any = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    wanted = getattr(text, "num_hidden_layers", None)
    lists = [m for m in text_part(model).modules() if isinstance(m, nn.ModuleList) and len(m) == wanted]
    outer = [m for m in lists if not any(m is not other and _holds(other, m) for other in lists)]
    if len(outer) != 1:
        raise BadInput(type(model).__name__, "has no single list of transformer blocks", "Use full, head or lora.")
    return outer[0]


def refuse_ensemble(model: Any, parts: str) -> None:
    """Refuse an emulated fine-tune (`models.emulated`) where one model's ``parts`` are wanted.

    Raises:
        BadInput: the model is an ensemble.
    """
    if getattr(model, "is_ensemble", False):
        raise BadInput(
            "an emulated fine-tune",
            f"answers with three models, so it has no {parts} of its own",
            "Give its small tuned model, the only one that saw the private text.",
        )


def text_part(model: Any) -> nn.Module:
    """The part that reads and writes text: the language model in one for images or sound too, else the model."""
    if not _has_other_parts(model):
        return cast(nn.Module, model)
    decoder = model.get_decoder()
    return decoder if isinstance(decoder, nn.Module) else cast(nn.Module, model)


def beside_text(model: Any) -> list[str]:
    """Names of the layers that text does not go through: towers for images or sound, and what joins them to it."""
    if not _has_other_parts(model):
        return []
    known_parts = {id(module) for part in (text_part(model), output_matrix(model)) for module in part.modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) not in known_parts and any(True for _ in module.parameters(recurse=False))
    ]


def _has_other_parts(model: Any) -> bool:
    config: Any = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    return text is not config and not getattr(config, "is_encoder_decoder", False) and hasattr(model, "get_decoder")


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
    """True if the output matrix is the input embedding."""
    return output_matrix(model).weight is model.get_input_embeddings().weight


def has_conv1d(model: nn.Module) -> bool:
    """True if weights are stored transposed, as in GPT-2."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    return any(module is inner for module in outer.modules())
