# SPDX-License-Identifier: Apache-2.0
"""Label smoothing (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7): no token is made
more than nearly certain."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reticent.core import validate
from reticent.train.objectives.objective import Objective, objective


@objective("label_smoothing", alters={"loss.token"}, flag="label_smoothing={amount!r}", paper="arXiv:1512.00567")
@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(Objective):
    """A share of each token's target is spread over the vocabulary.

    Args:
        amount: that share, in ``[0, 1)``.
    """

    amount: float = 0.1

    def __post_init__(self) -> None:
        validate.in_range(-1e-12, 1 - 1e-12, label_smoothing=self.amount)

    def token_loss(self, logits: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
        """See `label_smoothing`."""
        return label_smoothing(logits, gold, amount=self.amount)


def label_smoothing(logits: torch.Tensor, gold: torch.Tensor, *, amount: float) -> torch.Tensor:
    """``[n]`` float32, nats: ``(1 - a) · (-log p(gold)) + a · mean over the vocabulary of -log p``.

    With ``amount=0`` it is the cross-entropy.

    Args:
        logits: ``[n, V]``.
        gold: ``[n]`` int64.
        amount: a, in ``[0, 1)``.
    """
    wide = logits.float()
    total = wide.logsumexp(-1)
    loss = total - wide.gather(1, gold[:, None])[:, 0]
    if not amount:
        return loss
    return (1 - amount) * loss + amount * (total - wide.mean(-1))
