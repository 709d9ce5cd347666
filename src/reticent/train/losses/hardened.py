# SPDX-License-Identifier: Apache-2.0
"""The loss of a batch with label smoothing and a floor in it."""

from __future__ import annotations

import torch

from reticent.train.losses.label_smoothing import label_smoothing
from reticent.train.losses.loss_floor import loss_floor
from reticent.train.losses.shifted import shifted


def hardened_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, smoothing: float = 0.0, floor: float | None = None
) -> torch.Tensor:
    """Mean loss over the batch's trained tokens (nats a token).

    With a floor the mean of each record's tokens is raised to it (see `loss_floor`), and records count by their tokens,
    so that a floor of 0 changes nothing.

    Args:
        logits: ``[B, S, V]``, see `shifted`.
        labels: ``[B, T]``, ``IGNORED`` where not trained on.
        smoothing: share of the target that is spread over the vocabulary.
        floor: in nats a token; None for none.
    """
    at, gold, trained = shifted(logits, labels)
    each = label_smoothing(at[trained], gold[trained], amount=smoothing)
    if floor is None:
        return each.sum() / trained.sum().clamp(min=1)
    tokens = trained.sum(1)
    row = torch.arange(len(labels), device=labels.device)[:, None].expand_as(gold)[trained]
    record = each.new_zeros(len(labels)).index_add(0, row, each) / tokens.clamp(min=1)
    return (loss_floor(record, floor=floor) * tokens).sum() / tokens.sum().clamp(min=1)
