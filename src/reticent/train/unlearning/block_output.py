# SPDX-License-Identifier: Apache-2.0
"""The output of one transformer block in the last forward pass of a model."""

from __future__ import annotations

from typing import Any

import torch

from reticent.core.errors import BadInput
from reticent.models.anatomy import transformer_blocks


class BlockOutput:
    """Reads what a block gives, in each pass of the model.

    Args:
        model: in training.
        layer: number of the block, counted from 0.

    Raises:
        BadInput: the model has no such block.
    """

    def __init__(self, model: torch.nn.Module, layer: int) -> None:
        blocks = transformer_blocks(model)
        if layer >= len(blocks):
            raise BadInput(
                f"layer={layer}",
                f"the model has {len(blocks)} blocks, counted from 0",
                f"Give a layer up to {len(blocks) - 1} (--method_params).",
            )
        self._last: torch.Tensor | None = None
        blocks[layer].register_forward_hook(self._read)

    @property
    def last(self) -> torch.Tensor:
        """``[B, S, D]``, of the last pass."""
        assert self._last is not None
        return self._last

    def _read(self, block: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._last = output[0] if isinstance(output, tuple) else output
