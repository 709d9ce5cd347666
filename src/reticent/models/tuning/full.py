# SPDX-License-Identifier: Apache-2.0
"""Full fine-tuning."""

from __future__ import annotations

from typing import Any

from reticent.models.anatomy import beside_text
from reticent.models.tuning.method import tuning


@tuning("full", learning_rate=5e-5)
def full(model: Any) -> Any:
    """Train all weights that text goes through; towers for images or sound stay as they were."""
    model.requires_grad_(True)
    for name in beside_text(model):
        for parameter in model.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(False)
    return model
