# SPDX-License-Identifier: Apache-2.0
"""Full fine-tuning."""

from __future__ import annotations

from typing import Any

from reticent.models.tuning.method import tuning


@tuning("full", learning_rate=5e-5)
def full(model: Any) -> Any:
    """Train all weights."""
    return model.requires_grad_(True)
