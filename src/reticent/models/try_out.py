# SPDX-License-Identifier: Apache-2.0
"""One pass over a few tokens, forward and back: what cannot train on a model is refused before anything is trained."""

from __future__ import annotations

from typing import Any

import torch

from reticent.core.errors import BadInput
from reticent.models.locate import first_line

FAILURES = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What libraries raise when a method and a family of models do not go together."""
_TOKENS = 5


def try_out(model: Any, method: str) -> None:
    """Check that what a method trains takes part in the model's loss. Draws nothing and leaves no gradient.

    Args:
        model: as the method gave it, in evaluation mode. One without weights (on the meta device) is not tried.
        method: its name, for messages.

    Raises:
        BadInput: the pass fails, gives no numbers, or no gradient arrives at anything that is trained.
    """
    words = model.get_input_embeddings().weight
    if words.is_meta:
        return
    token_id = torch.arange(_TOKENS, device=words.device)[None] % len(words)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        with torch.enable_grad():
            out = model(input_ids=token_id, attention_mask=torch.ones_like(token_id), labels=token_id)
            found = torch.autograd.grad(out.loss, trained, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        raise does_not_fit(model, method, f"{type(error).__name__}: {first_line(error)}") from error
    if not bool(torch.isfinite(out.loss)):
        return  # of the weights, not of the method: training says so by name
    if not any(gradient is not None and bool(gradient.any()) for gradient in found):
        raise does_not_fit(model, method, "nothing that it trains changes what the model computes")


def does_not_fit(model: Any, method: str, why: str) -> BadInput:
    """The refusal of a method on a family of models."""
    return BadInput(
        f"method {method!r}",
        f"does not work on models of type {family(model)!r} ({why})",
        "Choose another method: full fits all of them, lora nearly all.",
    )


def family(model: Any) -> str:
    """What the configuration calls this kind of model, e.g. ``"falcon_h1"``."""
    return str(getattr(model.config, "model_type", None) or type(model).__name__)
