# SPDX-License-Identifier: Apache-2.0
"""Unlearning as a training objective: the records of the training are those to be forgotten.

The methods themselves are pure functions in `reticent.train.unlearning.methods`. The training goes on from a tuned
model, so it has two further sets of records: ``retain``, which are to be known as before, and ``unseen``, which were
never trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord, encode
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective, objective
from reticent.train.unlearning.method import UNLEARNERS, Unlearner


@objective(
    "unlearning",
    alters={"loss", "gradient", "corpus"},
    watched=False,
    record_sets={"retain", "unseen"},
    why={
        "private": (
            "its loss is none of single records, and its promise would have to be about those who are to be forgotten",
            "Unlearn without it; the promise of the run that is gone on from holds as before.",
        )
    },
)
@dataclass(frozen=True, kw_only=True)
class Unlearning(Objective):
    """One unlearning method, with what stands beside its loss.

    Args:
        method: name of a method that is a loss.
        params: its settings.
        forget_weight, retain_weight: γ and α; None for the method's own.
        token_quantile: only tokens that gained more than this share of those of unseen texts are forgotten; None for
            all, or for what the method says.
        every: steps between checkpoints; 0 for one after each epoch.
    """

    method: str = "npo"
    params: dict[str, Any] = field(default_factory=dict)
    forget_weight: float | None = None
    retain_weight: float | None = None
    token_quantile: float | None = None
    every: int = 0

    def __post_init__(self) -> None:
        declared = self.declared
        declared.check(self.params)
        if declared.kind != "loss":
            raise BadInput(f"method={self.method!r}", "is no loss", "Choose npo.")
        validate.non_negative(every=self.every)

    @property
    def declared(self) -> Unlearner:
        """The method."""
        return UNLEARNERS.get(self.method)

    def arguments(self) -> dict[str, Any]:
        """Checkpoints and losses at the steps at which the panel is looked at, and steps by the gradient alone where it
        is collapsed."""
        changed: dict[str, Any] = {}
        if self.every:
            changed = {"save_strategy": "steps", "save_steps": self.every}
            changed |= {"logging_strategy": "steps", "logging_steps": self.every}
        if self.declared.collapse is None:
            return changed
        from reticent.train.unlearning.collapsed import ARGUMENTS

        return changed | dict(ARGUMENTS)

    def trainer(self, material: TrainingMaterial) -> Callable[..., TuneTrainer]:
        """See `reticent.train.unlearning.unlearn_trainer.UnlearnTrainer`, and `collapsed` beside it."""
        from reticent.train.unlearning.collapsed import CollapsedTrainer
        from reticent.train.unlearning.unlearn_trainer import UnlearnTrainer

        declared = self.declared
        return partial(
            UnlearnTrainer if declared.collapse is None else CollapsedTrainer,
            alternatives=partial(self._alternatives, material) if declared.alternative else None,
            retain=material.record_sets["retain"].encoded,
            unseen=material.record_sets["unseen"].encoded,
            base=material.reference,
            method=declared,
            params=self.params,
            forget_weight=declared.forget_weight if self.forget_weight is None else self.forget_weight,
            retain_weight=declared.retain_weight if self.retain_weight is None else self.retain_weight,
            token_quantile=self.token_quantile,
        )

    def _alternatives(self, material: TrainingMaterial, model: Any) -> list[EncodedRecord]:
        """``[N]`` texts in place of those to be forgotten."""
        from reticent.train.unlearning.alternatives import refusal, sampled

        if self.declared.alternative == "sampled":
            return sampled(model, material.tokenizer, material.corpus.encoded, seed=0)
        records = [refusal(material.records[place]) for place in material.corpus.records]
        return [encode(record, material.tokenizer, max_tokens=material.max_tokens, add_eos=True) for record in records]
