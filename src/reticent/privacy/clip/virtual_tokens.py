# SPDX-License-Identifier: Apache-2.0
"""PEFT's virtual tokens, looked up for each row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch import nn

_ONCE = (PeftType.PROMPT_TUNING, PeftType.P_TUNING)
"""Kinds of virtual tokens that PEFT looks up once and then repeats, which loses whose gradient is whose."""


@contextmanager
def looked_up_by_row(model: nn.Module) -> Iterator[None]:
    """Within it, prompts are looked up once for each row of a batch. Their values are the same."""
    wrapped = [module for module in model.modules() if isinstance(module, PeftModel)]
    before = [module.__dict__.get("get_prompt") for module in wrapped]
    for module in wrapped:
        module.__dict__["get_prompt"] = partial(_get_prompt, module)
    try:
        yield
    finally:
        for module, forward in zip(wrapped, before, strict=True):
            del module.__dict__["get_prompt"]
            if forward is not None:
                module.__dict__["get_prompt"] = forward


def _get_prompt(model: Any, batch_size: int, *args: Any, **kwargs: Any) -> Any:
    config = model.active_peft_config
    if config.peft_type not in _ONCE or config.inference_mode:
        return type(model).get_prompt(model, batch_size, *args, **kwargs)
    encoder = model.prompt_encoder[model.active_adapter]
    tokens: torch.Tensor = model.prompt_tokens[model.active_adapter].to(encoder.embedding.weight.device)
    return encoder(tokens.expand(batch_size, -1))
