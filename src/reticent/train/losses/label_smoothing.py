# SPDX-License-Identifier: Apache-2.0
"""Label smoothing (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7): no token is made
more than nearly certain."""

from __future__ import annotations

import torch


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
