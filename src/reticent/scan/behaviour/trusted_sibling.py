# SPDX-License-Identifier: Apache-2.0
"""A sibling is of use only where both models read the same tokens in the same way: anything else is refused."""

from __future__ import annotations

from typing import Any

from reticent.core.errors import BadInput
from reticent.models.load import LoadedModel
from reticent.scan.suspect import Suspect

FIX = "Give the model that it was made from, or an earlier revision of it (--base)."


def compared(suspect: Suspect) -> tuple[LoadedModel, LoadedModel]:
    """The suspect and its sibling, both loaded.

    Raises:
        BadInput: there is no sibling, or it has another architecture, size or vocabulary.
    """
    loaded, sibling = suspect.loaded, suspect.sibling
    given = f"the sibling {sibling.source}"
    ours, theirs = _shape(loaded.model), _shape(sibling.model)
    for name, value in ours.items():
        if theirs[name] != value:
            raise BadInput(given, f"has {name} {theirs[name]}, the suspect {value}", FIX)
    if loaded.tokenizer.get_vocab() != sibling.tokenizer.get_vocab():
        raise BadInput(given, "has another vocabulary, so losses of both are about other tokens", FIX)
    return loaded, sibling


def _shape(model: Any) -> dict[str, object]:
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = core.config.get_text_config()
    return {
        "architecture": config.model_type,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
    }
