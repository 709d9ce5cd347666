# SPDX-License-Identifier: Apache-2.0
"""Tokens that fine-tuning made unusually more likely, so that only those are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.score.engine import ScoreOptions, open_engine, score
from reticent.train.unlearning.methods.token_local import token_mask

Floats = npt.NDArray[np.float64]


def narrowed(
    rows: Sequence[EncodedRecord], unseen: Sequence[EncodedRecord], tuned: Any, base: Any, *, quantile: float
) -> list[EncodedRecord]:
    """The rows with only those tokens trained that gained more than ``quantile`` of those of unseen texts.

    Args:
        rows: ``[N]`` to be forgotten.
        unseen: texts that were never trained on.
        tuned, base: models in evaluation mode, after and before fine-tuning.
        quantile: see `reticent.train.unlearning.methods.token_local.token_mask`.

    Raises:
        BadInput: no token gained so much.
    """
    held_out = np.concatenate(_gains(unseen, tuned, base))
    gains = _gains(rows, tuned, base)
    chosen = [_only(row, gain, held_out, quantile) for row, gain in zip(rows, gains, strict=True)]
    if not any(row.predicted for row in chosen):
        raise BadInput(
            f"token_quantile={quantile:g}",
            "no token of the texts to be forgotten gained more on the base than those of unseen texts",
            "Give a smaller share, or a method for whole texts.",
        )
    return chosen


def _only(row: EncodedRecord, gain: Floats, held_out: Floats, quantile: float) -> EncodedRecord:
    mask = token_mask(torch.from_numpy(gain), torch.from_numpy(held_out), quantile=quantile).numpy()
    trained = np.zeros_like(row.trained)
    trained[np.flatnonzero(row.trained[1:]) + 1] = mask
    return replace(row, trained=trained)


def _gains(rows: Sequence[EncodedRecord], tuned: Any, base: Any) -> list[Floats]:
    """For each row, ``log p_tuned - log p_base`` (nats) of its trained tokens that have something before them."""
    options = ScoreOptions()
    after, offsets = score(open_engine(tuned, "the tuned model", options), rows)
    before, _ = score(open_engine(base, "its base", options), rows)
    gain = after["logp"].astype(np.float64) - before["logp"]
    return [gain[start:stop] for start, stop in pairwise(offsets)]
