# SPDX-License-Identifier: Apache-2.0
"""Prompt tuning."""

from __future__ import annotations

from typing import Any

import torch
from peft import PromptTuningConfig, get_peft_model

from reticent.core import validate
from reticent.models.context import text_config
from reticent.models.locate import first_line
from reticent.models.try_out import FAILURES, does_not_fit
from reticent.models.tuning.method import tuning

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


@tuning("prompt", learning_rate=3e-2, storage="peft", paper="arXiv:2104.08691", holds_base=True)
def prompt(model: Any, *, virtual_tokens: int = 20) -> Any:
    """Train the embeddings of virtual tokens that precede every text; they start as those of random tokens.

    Args:
        model: what to tune.
        virtual_tokens: length of the prompt.

    Raises:
        BadInput: the model takes no embeddings in place of tokens.
    """
    validate.positive(virtual_tokens=virtual_tokens)
    embedding = model.get_input_embeddings().weight
    start = embedding[torch.randint(len(embedding), (virtual_tokens,), device=embedding.device)].detach().clone()
    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=virtual_tokens,
        token_dim=embedding.shape[1],
        num_attention_heads=_heads(model),
    )
    try:
        tuned = get_peft_model(model, config)
        with torch.no_grad():
            tuned.prompt_encoder["default"].embedding.weight.copy_(start)
    except FAILURES as error:
        raise does_not_fit(model, "prompt", f"{type(error).__name__}: {first_line(error)}") from error
    return tuned


def _heads(model: Any) -> int:
    """PEFT wants a number, though a prompt has no heads; models without attention have none to name."""
    numbers = (getattr(text_config(model), name, None) for name in _HEADS)
    return next((heads for heads in numbers if isinstance(heads, int)), 1)
