# SPDX-License-Identifier: Apache-2.0
"""IA3: rescaled activations."""

from __future__ import annotations

from typing import Any

from peft import IA3Config, get_peft_model

from reticent.core.errors import BadInput
from reticent.models.anatomy import beside_text, has_conv1d
from reticent.models.tuning.method import tuning


@tuning("ia3", learning_rate=8e-3, storage="peft", paper="arXiv:2205.05638", holds_base=True)
def ia3(model: Any, *, target_modules: list[str] | None = None, feedforward_modules: list[str] | None = None) -> Any:
    """Train one factor for each channel of keys, values and feed-forward activations; all start at 1.

    Args:
        model: what to tune.
        target_modules: names of layers to rescale; None for those that PEFT knows for this family of models.
        feedforward_modules: those among them whose input is rescaled rather than the output.

    Raises:
        BadInput: PEFT does not know the family and no names are given.
    """
    config = IA3Config(
        task_type="CAUSAL_LM",
        target_modules=target_modules,
        feedforward_modules=feedforward_modules,
        exclude_modules=beside_text(model) or None,
        fan_in_fan_out=has_conv1d(model),
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise BadInput("ia3", str(error).split("\n")[0], "Name target_modules and feedforward_modules.") from error
