# SPDX-License-Identifier: Apache-2.0
"""A floor under each record's loss: what is fitted better than that is unlearned until it is back.

Flooding record by record (Ishida et al., "Do We Need Zero Training Loss After Achieving Zero Training Error?", ICML
2020, equation 2; record by record as in Xie et al., "iFlood", ICLR 2022). RelaxLoss (Chen et al., ICLR 2022) climbs
back to a floor too, on the mean of a batch; its flattening of the outputs is left out here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reticent.core import validate
from reticent.train.objectives.objective import Objective, objective


@objective("loss_floor", alters={"loss.record"}, flag="loss_floor={floor!r}", paper="arXiv:2002.08709")
@dataclass(frozen=True, kw_only=True)
class LossFloor(Objective):
    """A record whose mean loss is below the floor is unlearned until it is back.

    Args:
        floor: in nats a token.
    """

    floor: float = 2.0

    def __post_init__(self) -> None:
        validate.positive(loss_floor=self.floor)

    def record_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """See `loss_floor`."""
        return loss_floor(loss, floor=self.floor)


def loss_floor(loss: torch.Tensor, *, floor: float) -> torch.Tensor:
    """``|loss - floor| + floor``: above the floor the loss itself, below it its mirror image, which climbs.

    Args:
        loss: ``[B]``, mean loss of each record (nats a token).
        floor: in nats a token.
    """
    return (loss - floor).abs() + floor
