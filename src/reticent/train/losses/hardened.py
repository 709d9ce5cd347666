# SPDX-License-Identifier: Apache-2.0
"""The loss of a batch with label smoothing and a floor in it."""

from __future__ import annotations

from typing import Any

import torch

from reticent.train.batches import IGNORED
from reticent.train.losses.label_smoothing import label_smoothing
from reticent.train.losses.loss_floor import loss_floor


def hardened_loss(
    outputs: Any,
    labels: torch.Tensor,
    num_items_in_batch: Any = None,
    *,
    smoothing: float = 0.0,
    floor: float | None = None,
) -> torch.Tensor:
    """Mean loss over the batch's trained tokens; as the Trainer's ``compute_loss_func`` takes it.

    With a floor the mean of each record's tokens is raised to it (see `loss_floor`), and records count by their tokens,
    so that a floor of 0 changes nothing.

    Args:
        outputs: of the model; ``logits [B, S, V]``, S at least T (virtual tokens stand in front).
        labels: ``[B, T]``, ``IGNORED`` where not trained on; shifted here.
        num_items_in_batch: of the Trainer, not used: one batch is one step.
        smoothing: share of the target that is spread over the vocabulary.
        floor: in nats a token; None for none.
    """
    logits = outputs.logits[:, outputs.logits.shape[1] - labels.shape[1] :][:, :-1]
    gold = labels[:, 1:]
    trained = gold != IGNORED
    each = label_smoothing(logits[trained], gold[trained], amount=smoothing)
    if floor is None:
        return each.sum() / trained.sum().clamp(min=1)
    tokens = trained.sum(1)
    row = torch.arange(len(labels), device=labels.device)[:, None].expand_as(gold)[trained]
    record = each.new_zeros(len(labels)).index_add(0, row, each) / tokens.clamp(min=1)
    return (loss_floor(record, floor=floor) * tokens).sum() / tokens.sum().clamp(min=1)
