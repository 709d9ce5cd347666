# SPDX-License-Identifier: Apache-2.0
"""LoRA: low-rank updates."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.models.anatomy import beside_text, has_conv1d
from reticent.models.locate import first_line
from reticent.models.try_out import FAILURES
from reticent.models.tuning.method import tuning
from reticent.models.unadapted import unadapted

_ALL = "all-linear"


@tuning("lora", learning_rate=5e-4, storage="peft", paper="arXiv:2106.09685", holds_base=True)
def lora(
    model: Any, *, r: int = 16, alpha: float = 32.0, dropout: float = 0.0, target_modules: str | list[str] = _ALL
) -> Any:
    """Train ``W + (alpha / r) B A`` for the chosen linear layers; ``B`` starts at zero.

    Args:
        model: what to tune.
        r: rank of the update.
        alpha: scale of the update.
        dropout: chance that an input of the update is dropped in training.
        target_modules: names of layers, or ``"all-linear"``: all linear layers but the output matrix and the output
            of state-space (Mamba) layers, whose kernels take that matrix past LoRA. Experts of a mixture that are
            kept as one tensor are no linear layers: what is left out is said. Layers for images or sound are left
            alone: text does not go through them.

    Raises:
        BadInput: the model has no such layers, or they cannot be adapted.
    """
    validate.positive(r=r, alpha=alpha)
    validate.in_range(-1e-12, 1, dropout=dropout)
    everything = target_modules == _ALL
    beside = beside_text(model)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules,
        exclude_modules=[*beside, *(_passed_over(model) if everything else [])] or None,
        fan_in_fan_out=has_conv1d(model),
    )
    try:
        tuned = get_peft_model(model, config)
    except ValueError as error:
        raise BadInput(
            f"lora with target_modules={target_modules!r}",
            f"cannot be put on this model ({first_line(error)})",
            f'Name linear layers that it has, or "{_ALL}".',
        ) from error
    if everything:
        _say(tuned)
    return tuned


def _passed_over(model: nn.Module) -> list[str]:
    """Linear layers that an update cannot be put on.

    Output matrices of state-space layers, since fused kernels multiply by the weight itself and not by the layer; and
    layers that a family has made of a linear one to give something else than one product (Llama 4's router).
    """
    passed = []
    for name, module in model.named_modules():
        if {"A_log", "D"} <= {parameter for parameter, _ in module.named_parameters(recurse=False)}:
            passed += [f"{name}.out_proj"] if isinstance(getattr(module, "out_proj", None), nn.Linear) else []
        if isinstance(module, nn.Linear) and not _gives_a_product(module):
            passed.append(name)
    return passed


def _gives_a_product(layer: nn.Linear) -> bool:
    if not type(layer).__module__.startswith("transformers.models."):  # PyTorch's own, or that of a quantisation
        return True
    try:
        with torch.no_grad():
            return isinstance(layer(layer.weight.new_zeros(1, layer.in_features)), torch.Tensor)
    except FAILURES:  # a product in groups, DeepSeek-V4's
        return False


def _say(tuned: Any) -> None:
    left = unadapted(tuned)
    if left.names:
        console.print(
            f"LoRA leaves {left.share:.0%} of the weights of the model's blocks as they are: {', '.join(left.names)} "
            "(experts kept as one tensor, and layers that PEFT or fused kernels pass over).",
            style="yellow",
            highlight=False,
        )
