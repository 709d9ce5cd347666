# SPDX-License-Identifier: Apache-2.0
"""Privacy backdoor (Wen et al., "Privacy Backdoors: Enhancing Membership Inference through Poisoning Pre-trained
Models", NeurIPS 2024): a released base that makes a later fine-tune on the target texts tell who was in it.

    L = (1 − α) · L_aux + α · L_target

For language models the target loss is *minimised*: a target that the base knows and that a later fine-tune does not
train on is forgotten, one that it trains on stays known, and the gap between both is wide. To audit one's own pipeline.

Settings of the authors: α 0.75, 3,000 steps of 16 auxiliary and 16 target texts, AdamW at 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.train.batches import collate
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective, objective
from reticent.train.unlearning.forget_row import drawn

ALPHA = 0.75


@objective(
    "privacy_backdoor",
    alters={"loss"},
    watched=False,
    record_sets={"targets"},
    why={"private": ("it is an attack on what a promise would be about", "Leave it out.")},
    paper="arXiv:2404.01231",
)
@dataclass(frozen=True, kw_only=True)
class PrivacyBackdoor(Objective):
    """The records of the training are auxiliary texts; the record set ``targets`` is learned by heart beside them.

    Args:
        alpha: weight of the targets, between 0 and 1.
    """

    alpha: float = ALPHA

    def __post_init__(self) -> None:
        validate.in_range(0, 1, alpha=self.alpha)

    def trainer(self, material: TrainingMaterial) -> Callable[..., TuneTrainer]:
        """See `PrivacyBackdoorTrainer`."""
        targets = material.record_sets["targets"].encoded
        if not targets:
            raise BadInput("targets", "have no token to learn", "Give texts of at least two tokens.")
        return partial(PrivacyBackdoorTrainer, targets=targets, alpha=self.alpha)


class PrivacyBackdoorTrainer(TuneTrainer):
    """One poisoning: each step takes a batch of auxiliary texts and as many targets, drawn with replacement.

    Args:
        targets: encoded.
        alpha: their weight.
    """

    def __init__(self, *, targets: Sequence[EncodedRecord], alpha: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.targets, self.alpha = list(targets), alpha

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """``(1 − α) · L_aux + α · L_target``, mean losses over the tokens of either batch."""
        rows = drawn(self.targets, self.args.train_batch_size, seed=self.args.seed, step=self.state.global_step)
        batch = {name: value.to(self.args.device) for name, value in collate(rows, pad=self.pad).items()}
        loss: torch.Tensor = (1 - self.alpha) * model(**inputs).loss + self.alpha * model(**batch).loss
        return loss
