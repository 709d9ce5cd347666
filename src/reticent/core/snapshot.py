# SPDX-License-Identifier: Apache-2.0
"""Snapshot: one look at the panel while a model trains; TrainingHistory: all looks of one training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from reticent.core.finding import Estimate

PHASES = ("start", "fitting", "memorization", "overfitting")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """State of the panel after ``step`` optimizer steps. The first moment is the model before training.

    Args:
        step: optimizer steps taken.
        epoch: how often the training data had been seen, as a fraction.
        held_out_loss: mean negative log-likelihood of held-out tokens, in nats a token; lower is better.
        member_loss: the same of members.
        gap: mean over held-out records of the mean loss of a record, minus that over members, in nats a token.
        tpr_at_10pct_fpr: share of members below the loss difference to the base that 10 % of held-out records are
            below: reference attack (arXiv:2205.12506). None where there are too few held-out records.
        auc: of the same score, records; None before training, when there is no difference to the base.
        tpr_at_1pct_fpr: of the same score at 1 % FPR; None where there are fewer than 1,000 held-out records.
        user_auc: of the mean over a user's fresh texts; None without users.
        canary_user_auc: the same of users with a phrase of their own in all their texts; None without such users.
        exposure: median exposure in bits of the planted secrets among controls, by tier ("planted once", "planted 4
            times", "not planted (control)").
        copied: share of members' trained 5-grams that the model would say greedily, word for word, minus that of
            held-out records: the n-gram memorization score. None where not asked for.
        phase: see `PHASES`; methods: `reticent.stats.phases`.
        refused: what is missing here and why, a sentence each, beginning with the metric's name.
        seconds: that the look took.
        trained_seconds: of training before this look, without looks.
    """

    step: int
    epoch: float
    held_out_loss: Estimate
    member_loss: Estimate
    gap: Estimate
    tpr_at_10pct_fpr: Estimate | None
    auc: Estimate | None
    tpr_at_1pct_fpr: Estimate | None = None
    user_auc: Estimate | None = None
    canary_user_auc: Estimate | None = None
    exposure: dict[str, Estimate] = field(default_factory=dict)
    copied: Estimate | None = None
    phase: str = "start"
    refused: tuple[str, ...] = ()
    seconds: float = 0.0
    trained_seconds: float = 0.0

    @property
    def perplexity(self) -> float:
        """Of held-out text: ``exp(held_out_loss)``."""
        return math.exp(min(self.held_out_loss.value, 700.0))

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise ValueError(f"phase {self.phase!r} is not one of {PHASES}")


@dataclass(frozen=True, kw_only=True)
class TrainingHistory:
    """All moments of one training, in order.

    Args:
        moments: the first is the model before training.
        members: records of the panel that are trained on.
        held_out: records of the panel that are not.
        users: users of the panel, in and out; 0 without users.
        training_seconds: of the training without the looks.
        watching_seconds: of all looks.
        stopped: why training ended early; empty if it did not.
    """

    derived: ClassVar[tuple[str, ...]] = ("overhead",)

    moments: tuple[Snapshot, ...]
    members: int
    held_out: int
    users: int
    training_seconds: float
    watching_seconds: float
    stopped: str = ""

    @property
    def overhead(self) -> float:
        """Looking as a fraction of training time."""
        return self.watching_seconds / max(self.training_seconds, 1e-9)

    @property
    def best(self) -> Snapshot:
        """The moment with the lowest held-out loss."""
        return min(self.moments, key=lambda moment: moment.held_out_loss.value)
