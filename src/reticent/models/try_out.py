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
"""Errors that libraries raise when a method does not fit a family of models."""
_TOKENS = 5


def try_out(model: Any, method: str) -> None:
    """Check that what a method trains takes part in the model's loss. Random states and gradients stay as they were.

    Args:
        model: as the method gave it. One without weights (on the meta device) is not tried.
        method: its name, for messages.

    Raises:
        BadInput: the pass fails, or no gradient arrives at anything that is trained.
    """
    words = model.get_input_embeddings().weight
    if words.is_meta:
        return
    before = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=[words.device] if words.is_cuda else []):
        try:
            # As it is trained; without dropout once more, which may have cut the little that five tokens give.
            reached = _reached(model.train(), method) or _reached(model.eval(), method)
        finally:
            for module, training in before:
                module.training = training
    if not reached:
        raise does_not_fit(model, method, "nothing that it trains changes what the model computes")


def _reached(model: Any, method: str) -> bool:
    """True if a gradient arrives at anything that is trained, or the loss is no number, which training says by name."""
    words = model.get_input_embeddings().weight
    token_id = torch.arange(_TOKENS, device=words.device)[None] % len(words)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        with torch.enable_grad():
            out = model(input_ids=token_id, attention_mask=torch.ones_like(token_id), labels=token_id)
            gradients = torch.autograd.grad(out.loss, trained, allow_unused=True) if out.loss.requires_grad else ()
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        raise does_not_fit(model, method, f"{type(error).__name__}: {first_line(error)}") from error
    arrived = (gradient is not None and bool(gradient.any()) for gradient in gradients)
    return any(arrived) or not bool(torch.isfinite(out.loss))


def does_not_fit(model: Any, method: str, reason: str) -> BadInput:
    """The refusal of a method on a family of models."""
    return BadInput(
        f"method {method!r}",
        f"does not work on models of type {family(model)!r} ({reason})",
        "Name other target_modules, or use full." if method in ("lora", "ia3") else "Use lora, or full.",
    )


def family(model: Any) -> str:
    """The configuration's name of this kind of model, e.g. ``"falcon_h1"``."""
    return str(getattr(model.config, "model_type", None) or type(model).__name__)
