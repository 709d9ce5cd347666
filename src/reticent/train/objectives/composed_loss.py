# SPDX-License-Identifier: Apache-2.0
"""The loss of a batch, put together of a loss for each token and of what becomes of each record's mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from reticent.train.loop import TuneTrainer
from reticent.train.shifted import shifted

TokenLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
RecordLoss = Callable[[torch.Tensor], torch.Tensor]


class ComposedLossTrainer(TuneTrainer):
    """One fine-tuning with another loss of tokens, of records, or both.

    Args:
        token, record: see `composed_loss`.
    """

    def __init__(self, *, token: TokenLoss | None, record: RecordLoss | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token, self.record = token, record

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """See `composed_loss`."""
        labels = inputs.pop("labels")
        return composed_loss(model(**inputs).logits, labels, token=self.token, record=self.record)


def composed_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    token: TokenLoss | None = None,
    record: RecordLoss | None = None,
) -> torch.Tensor:
    """Mean loss over the batch's trained tokens (nats a token).

    With ``record`` the mean of each record's tokens goes through it, and records count by their tokens, so that one
    that changes nothing changes nothing of the whole.

    Args:
        logits: ``[B, S, V]``, see `shifted`.
        labels: ``[B, T]``, ``IGNORED`` where not trained on.
        token: from logits ``[n, V]`` and the tokens ``[n]`` that they predict, the loss ``[n]`` of each; None for the
            cross-entropy.
        record: from the mean loss ``[B]`` of each record what stands in its place; None for itself.
    """
    at, gold, trained = shifted(logits, labels)
    losses = (token or cross_entropy)(at[trained], gold[trained])
    if record is None:
        return losses.sum() / trained.sum().clamp(min=1)
    tokens = trained.sum(1)
    row = torch.arange(len(labels), device=labels.device)[:, None].expand_as(gold)[trained]
    means = losses.new_zeros(len(labels)).index_add(0, row, losses) / tokens.clamp(min=1)
    return (record(means) * tokens).sum() / tokens.sum().clamp(min=1)


def cross_entropy(logits: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """``[n]`` float32, nats: ``-log p(gold)``."""
    wide = logits.float()
    return wide.logsumexp(-1) - wide.gather(1, gold[:, None])[:, 0]
