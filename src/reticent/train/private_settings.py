# SPDX-License-Identifier: Apache-2.0
"""What is settled before the first private step: that no setting voids the guarantee, that the plan is for the very
records that are trained on, that all processes have the same one, and what only changes speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.clip.api import IMPLS
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.refuse import Training, refuse
from reticent.privacy.sampling import Population
from reticent.train.micro_batches import tokens_of
from reticent.train.population import population_of, refuse_other

CPU_MICRO_TOKENS, MICRO_TOKENS = 2048, 16_384


@dataclass(frozen=True, kw_only=True)
class PrivateSpeed:
    """What changes time and memory and never the guarantee.

    Args:
        impl: of the clipper: ``bookkeeping``, or ``reference``, a slow loop over units.
        micro_tokens: tokens in a micro-batch, padding included; None: 2,048 on a CPU, 16,384 elsewhere. A unit that is
            larger makes a micro-batch of its own.
        autocast: dtype of the activations; None: bfloat16 with ``bf16=True``, else the model's own.
    """

    impl: Literal["bookkeeping", "reference"] = "bookkeeping"
    micro_tokens: int | None = None
    autocast: torch.dtype | None = None

    def __post_init__(self) -> None:
        validate.one_of(IMPLS, impl=self.impl)
        if self.micro_tokens is not None:
            validate.positive(micro_tokens=self.micro_tokens)


def fitting_plan(
    plan: PrivacyPlan | Callable[[Population], PrivacyPlan], population: Population | None, dataset: Any, args: Any
) -> PrivacyPlan:
    """The plan, which is for the very records of ``dataset``; ``args.max_steps`` becomes its steps.

    Raises:
        BadInput: it is for another population, or for another number of steps.
    """
    found = population_of(dataset, max_tokens=getattr(args, "max_length", None))
    if population is not None:
        refuse_other(population, found)
    population = population or found
    settled = plan if isinstance(plan, PrivacyPlan) else plan(population)
    again = settled.spec.plan(
        population, batch_size=round(settled.expected_batch), steps=settled.steps, key=settled.key
    )
    if again.fingerprint != settled.fingerprint:
        raise BadInput("the plan", "was made for another population", "Give a function that makes it for this one.")
    if args.max_steps not in (-1, settled.steps):
        raise BadInput(
            f"max_steps={args.max_steps}",
            f"the plan is for {settled.steps} steps",
            "Leave max_steps out, or make the plan for as many.",
        )
    args.max_steps = settled.steps
    return settled


def agree(mine: tuple[str, str], processes: int) -> None:
    """All processes have the same plan and settings.

    Args:
        mine: fingerprints of both in this process.
        processes: how many there are.

    Raises:
        BadInput: they have not.
    """
    if processes == 1:
        return
    found: list[Any] = [None] * processes
    dist.all_gather_object(found, mine)
    if any(one != mine for one in found):
        raise BadInput(
            "the plans of the processes",
            "differ, so batches would overlap and noise would be added more than once",
            "Take the key from open_key() in a folder that all processes see, and give all the same data.",
        )


def refuse_trainer(trainer: Any, unit: str, evaluation: Literal["held_out", "public"] | None) -> None:
    """See ``refuse``, of a Trainer that has been set up."""
    held_out = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {"eval": trainer.eval_dataset}
    if getattr(trainer, "held_out_blindly", False):
        held_out = {}  # drawn without a look at texts: which of them are equal tells nothing of who is trained on
    refuse(
        Training(
            args=trainer.args,
            model=trainer.model,
            unit=unit,
            rows=_token_ids(trainer.train_dataset),
            evaluation_rows=[row for one in held_out.values() for row in _token_ids(one)],
            evaluation=evaluation,
            train_dataset=trainer.train_dataset,
            callbacks=trainer.callback_handler.callbacks,
            collator=trainer.data_collator,
            compute_loss_func=trainer.compute_loss_func,
        )
    )


def _token_ids(dataset: Any) -> list[list[int]]:
    """Of each record; a stream, which is refused, has none."""
    return [tokens_of(item).ids.tolist() for item in dataset] if hasattr(dataset, "__len__") else []
