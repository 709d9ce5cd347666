# SPDX-License-Identifier: Apache-2.0
"""Logits beside the tokens that they predict."""

from __future__ import annotations

from typing import NamedTuple

import torch

from reticent.train.batches import IGNORED


class ShiftedLogits(NamedTuple):
    """``logits [B, T-1, V]``, the tokens ``gold [B, T-1]`` that they predict, and which of those are trained on."""

    logits: torch.Tensor
    gold: torch.Tensor
    trained: torch.Tensor


def shifted(logits: torch.Tensor, labels: torch.Tensor) -> ShiftedLogits:
    """Put the logits at one position beside the label at the next.

    Args:
        logits: ``[B, S, V]``, S at least T: where S is larger the model put virtual tokens in front.
        labels: ``[B, T]``, ``IGNORED`` where not trained on.
    """
    aligned = logits[:, logits.shape[1] - labels.shape[1] :][:, :-1]
    gold = labels[:, 1:]
    return ShiftedLogits(aligned, gold, gold != IGNORED)
