# SPDX-License-Identifier: Apache-2.0
"""Prompt tuning."""

from __future__ import annotations

from typing import Any

import torch
from peft import PromptTuningConfig, get_peft_model

from reticent.core import validate
from reticent.models.tuning.method import tuning


@tuning("prompt", learning_rate=3e-2, storage="peft", paper="arXiv:2104.08691")
def prompt(model: Any, *, virtual_tokens: int = 20) -> Any:
    """Train the embeddings of virtual tokens that precede every text; they start as those of random tokens.

    Args:
        model: what to tune.
        virtual_tokens: length of the prompt.
    """
    validate.positive(virtual_tokens=virtual_tokens)
    known = model.get_input_embeddings().weight
    start = known[torch.randint(len(known), (virtual_tokens,), device=known.device)].detach().clone()
    tuned = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual_tokens))
    with torch.no_grad():
        tuned.prompt_encoder["default"].embedding.weight.copy_(start)
    return tuned
