# SPDX-License-Identifier: Apache-2.0
"""The weight of the term of texts that are to be kept: fixed, or learned while the model is trained."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reticent.train.unlearning.methods.pdu import dual_update
from reticent.train.unlearning.parts import Dual

WEIGHT, LIMIT = "retain_weight", "retain_limit"
"""In the rows of a training's history, from which a training that is gone on with takes them up."""


class RetainWeight(TrainerCallback):  # type: ignore[misc]
    """The weight α.

    Args:
        start: before the first step, and throughout where nothing is learned.
        dual: how it is learned; None where it is fixed.
    """

    def __init__(self, *, start: float, dual: Dual | None) -> None:
        self.value, self.dual = start, dual
        self.limit: float | None = None
        self._term = 0.0

    def of(self, term: torch.Tensor) -> float:
        """The weight of a term (nats a token), which is remembered for the step's end."""
        if self.dual is not None:
            self._term = float(term.detach())
            if self.limit is None:
                self.limit = self._term + self.dual.retain_slack
        return self.value

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for row in state.log_history:
            if WEIGHT in row:
                self.value, self.limit = row[WEIGHT], row[LIMIT]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self.dual is not None
        assert self.limit is not None
        if (state.epoch or 0) > self.dual.dual_warmup_epochs:
            self.value = dual_update(self.value, self._term, limit=self.limit, step=self.dual.dual_step)
        row = {"step": state.global_step, "epoch": state.epoch, WEIGHT: self.value, LIMIT: self.limit}
        state.log_history.append(row)
