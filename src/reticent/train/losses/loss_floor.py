# SPDX-License-Identifier: Apache-2.0
"""A floor under each record's loss: what is fitted better than that is unlearned until it is back.

Flooding record by record (Ishida et al., "Do We Need Zero Training Loss After Achieving Zero Training Error?", ICML
2020, equation 2; record by record as in Xie et al., "iFlood", ICLR 2022). RelaxLoss (Chen et al., ICLR 2022) climbs
back to a floor too, on the mean of a batch; its flattening of the outputs is left out here.
"""

from __future__ import annotations

import torch


def loss_floor(loss: torch.Tensor, *, floor: float) -> torch.Tensor:
    """``|loss - floor| + floor``: above the floor the loss itself, below it its mirror image, which climbs.

    Args:
        loss: ``[B]``, mean loss of each record (nats a token).
        floor: in nats a token.
    """
    return (loss - floor).abs() + floor
