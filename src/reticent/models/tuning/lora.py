# SPDX-License-Identifier: Apache-2.0
"""LoRA: low-rank updates."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, get_peft_model

from reticent.core import validate
from reticent.models.anatomy import beside_text, has_conv1d
from reticent.models.tuning.method import tuning


@tuning("lora", learning_rate=5e-4, storage="peft", paper="arXiv:2106.09685")
def lora(
    model: Any,
    *,
    r: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    target_modules: str | list[str] = "all-linear",
) -> Any:
    """Train ``W + (alpha / r) B A`` for the chosen linear layers; ``B`` starts at zero.

    Args:
        model: what to tune.
        r: rank of the update.
        alpha: scale of the update.
        dropout: chance that an input of the update is dropped in training.
        target_modules: names of layers, or ``"all-linear"``: all but the output matrix. Layers for images or sound are
            left alone: text does not go through them.
    """
    validate.positive(r=r, alpha=alpha)
    validate.in_range(-1e-12, 1, dropout=dropout)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules,
        exclude_modules=beside_text(model) or None,
        fan_in_fan_out=has_conv1d(model),
    )
    return get_peft_model(model, config)
