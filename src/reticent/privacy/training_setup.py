# SPDX-License-Identifier: Apache-2.0
"""A private training that is about to begin, as the rules of `reticent.privacy.refuse` look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from reticent.privacy.rows import RowDigests, rows_of


class Violation(NamedTuple):
    """One setting that cannot be."""

    given: str
    why: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """A private training before it starts.

    Args:
        args: ``transformers.TrainingArguments``, or what derives from it (TRL's ``SFTConfig``).
        model: as the trainer was given it, not wrapped.
        unit: ``record`` or ``user``: what the guarantee protects.
        rows: of the records, as they are trained on; or their token ids.
        evaluation_rows: the same of the evaluation set.
        evaluation: what the evaluation set is, where the training is to be steered by its loss (best checkpoint, early
            stopping). ``held_out``: units that are not trained on; the guarantee does not cover them, and the choice
            may tell of them. ``public``: nothing to protect. None: nothing is steered by it.
        train_dataset: what the trainer draws from.
        callbacks: of the trainer.
        collator: makes batches.
        compute_loss_func: given to the trainer.
        trainer: that trains; None where there is none yet.
    """

    args: Any
    model: Any
    unit: str = "record"
    rows: RowDigests | Sequence[Sequence[int]] = ()
    evaluation_rows: RowDigests | Sequence[Sequence[int]] = ()
    evaluation: Literal["held_out", "public"] | None = None
    train_dataset: Any = None
    callbacks: Sequence[Any] = ()
    collator: Any = None
    compute_loss_func: Any = None
    trainer: Any = None

    @cached_property
    def trained(self) -> RowDigests:
        """``rows``, read once."""
        return rows_of(self.rows)

    @cached_property
    def evaluated(self) -> RowDigests:
        """``evaluation_rows``, read once."""
        return rows_of(self.evaluation_rows)
