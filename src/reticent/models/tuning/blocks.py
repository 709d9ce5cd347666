# SPDX-License-Identifier: Apache-2.0
"""Train chosen transformer blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reticent.core.errors import BadInput
from reticent.models.anatomy import transformer_blocks
from reticent.models.tuning.method import tuning


@tuning("blocks", learning_rate=1e-4, paper="arXiv:2205.12506")
def blocks(model: Any, *, layers: Sequence[int] = (-1,)) -> Any:
    """Train all weights of the chosen transformer blocks and nothing else.

    Args:
        model: what to tune.
        layers: which blocks, counted from 0 at the input; negative ones from the output (-1 is the last).

    Raises:
        BadInput: no block is chosen, or the model has no such block.
    """
    stack = transformer_blocks(model)
    for layer in layers:
        if not -len(stack) <= layer < len(stack):
            raise BadInput(
                f"layers={list(layers)}", f"the model has blocks 0 to {len(stack) - 1}", "Choose among them."
            )
        stack[layer].requires_grad_(True)
    return model
