# SPDX-License-Identifier: Apache-2.0
"""Clipper: turns batches into sums of per-unit gradients, each unit's shrunk to at most ``clip_norm``.

Guarantee: whatever the data, adding or removing one unit changes the sum of ``take`` by a vector whose L2 norm over
all trained parameters is at most ``clip_norm``, up to the rounding of the arithmetic.

========================  ==============================================
a unit whose gradient is  contributes
========================  ==============================================
shorter than clip_norm    its gradient ("automatic": scaled up towards it)
longer                    its direction, with length clip_norm
zero                      zero
not finite, or so long    zero: were it an error, one record could decide
that its square is not    whether there is a model at all
========================  ==============================================

With ``clip_norm=math.inf`` nothing is clipped, and the sum is the ordinary gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import nn

Clipping = Literal["flat", "per_layer", "automatic"]
CLIPPINGS = ("flat", "per_layer", "automatic")
STABILITY = 0.01
"""γ of automatic clipping, ``C / (‖g‖ + γ)`` (Bu et al., "Automatic Clipping", 2023, equation 4.1)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClippedSum:
    """Norms and losses of one call of ``accumulate``; not covered by any guarantee, so not to be released.

    Args:
        norm: ``[U]`` float32, L2 norm of each unit's gradient before clipping, over all layers also with ``per_layer``;
            0 where it is not finite.
        loss: ``[U]`` float32, each unit's weighted sum of its rows' mean losses (nats a token).
        finite: ``[U]`` bool, whether the unit's gradient is; where it is not, the unit contributed zero.
    """

    norm: torch.Tensor
    loss: torch.Tensor
    finite: torch.Tensor


class Clipper(Protocol):
    """Accumulates clipped gradients. Made by ``make_clipper``."""

    def attached(self) -> AbstractContextManager[None]:
        """Within it the model runs so that per-unit gradients can be had; after it the model is as before."""

    def accumulate(
        self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, *, weight: torch.Tensor, rows_per_unit: int = 1
    ) -> ClippedSum:
        """One forward and one backward pass over ``B = U * rows_per_unit`` rows; adds U clipped gradients to the sums.

        Args:
            inputs: what the model is called with (``input_ids``, ``attention_mask``: ``[B, T]``), without labels.
            labels: ``[B, T]``, -100 where a token is not trained on; shifted here.
            weight: ``[B]``, factor of each row's mean loss over its trained tokens; 0 for rows that only fill up.
            rows_per_unit: rows of a unit are adjacent.
        """

    def take(self) -> dict[nn.Parameter, torch.Tensor]:
        """The sums since the last call, float32, for every trained parameter; they are forgotten here."""
