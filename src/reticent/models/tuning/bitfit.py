# SPDX-License-Identifier: Apache-2.0
"""BitFit: train the biases."""

from __future__ import annotations

from typing import Any

from reticent.core.errors import BadInput
from reticent.models.anatomy import beside_text
from reticent.models.tuning.method import tuning


@tuning("bitfit", learning_rate=1e-3, paper="arXiv:2106.10199")
def bitfit(model: Any) -> Any:
    """Train the bias vectors only, of linear layers and of normalisations.

    Raises:
        BadInput: the model has no biases (Llama and its kin). Training their RMSNorm gains instead would be another
            method, so it is not done under this name.
    """
    left = {f"{name}.bias" for name in beside_text(model)}
    biases = [p for name, p in model.named_parameters() if name.split(".")[-1] == "bias" and name not in left]
    if not biases:
        raise BadInput("bitfit", "this model has no biases to train", "Use ia3 (as small) or lora.")
    for parameter in biases:
        parameter.requires_grad_(True)
    return model
