# SPDX-License-Identifier: Apache-2.0
"""Checks before the first private step: that no setting voids the guarantee, that the plan is for the very
records that are trained on, that all processes have the same one, and what only changes speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import nn

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.clip.make import IMPLS, Impl
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.refuse import TrainingSetup, refuse
from reticent.privacy.rows import RowDigests, rows_of
from reticent.privacy.sampling import Population
from reticent.train.diverged import Diverged
from reticent.train.private.micro_batches import tokens_of
from reticent.train.private.population import RowCounts, refuse_other

T = TypeVar("T")
CPU_MICRO_TOKENS, MICRO_TOKENS = 2048, 16_384


@dataclass(frozen=True, kw_only=True)
class PrivateSpeed:
    """Settings that change time and memory and never the guarantee.

    Args:
        impl: of the clipper: ``bookkeeping``; ``reference``, a slow loop over units that is right for any layer; or
            ``auto``, the first where it is right for the model, else the second.
        micro_tokens: tokens in a micro-batch, padding included; None: 2,048 on a CPU, 16,384 elsewhere. A unit that is
            larger makes a micro-batch of its own.
        autocast: dtype of the activations; None: bfloat16 with ``bf16=True``, else the model's own.

    Examples:
        >>> PrivateSpeed(micro_tokens=4096).impl
        'auto'
    """

    impl: Impl = "auto"
    micro_tokens: int | None = None
    autocast: torch.dtype | None = None

    def __post_init__(self) -> None:
        validate.one_of(IMPLS, impl=self.impl)
        if self.micro_tokens is not None:
            validate.positive(micro_tokens=self.micro_tokens)


def fitting_plan(
    plan: PrivacyPlan | Callable[[Population], PrivacyPlan], population: Population | None, read: RowCounts, args: Any
) -> PrivacyPlan:
    """The plan, which is for the very records that were ``read``; ``args.max_steps`` becomes its steps.

    Its fingerprint covers their token ids and labels, also where the population that it was made for has none.

    Raises:
        BadInput: it is for another population, or for another number of steps.
    """
    people = read.population(max_tokens=getattr(args, "max_length", None))
    if population is not None:
        refuse_other(population, people)
    whole = people if population is None else replace(population, contents=people.contents)
    settled = plan if isinstance(plan, PrivacyPlan) else plan(whole)
    # Made by hand for lengths alone, it is taken, and from here on holds for these contents.
    settled.refuse_other(whole if settled.data == whole.fingerprint else replace(whole, contents=None))
    settled = replace(settled, data=whole.fingerprint)
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
    answers: list[Any] = [None] * processes
    dist.all_gather_object(answers, mine)
    if any(answer != mine for answer in answers):
        raise BadInput(
            "the plans of the processes",
            "differ, so batches would overlap and noise would be added more than once",
            "Take the key from open_key() in a folder that all processes see, and give all the same data.",
        )


def refuse_trainer(trainer: Any, read: RowCounts, unit: str, evaluation: Literal["held_out", "public"] | None) -> None:
    """See ``refuse``, of a Trainer that has been set up on records that were ``read``."""
    held_out = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {"eval": trainer.eval_dataset}
    if getattr(trainer, "held_out_blindly", False):
        held_out = {}  # drawn without a look at texts: which of them are equal tells nothing of who is trained on
    refuse(
        TrainingSetup(
            args=trainer.args,
            model=trainer.model,
            unit=unit,
            rows=read.rows,
            evaluation_rows=rows_of(ids for rows in held_out.values() for ids in _token_ids(rows)),
            evaluation=evaluation,
            train_dataset=trainer.train_dataset,
            callbacks=trainer.callback_handler.callbacks,
            collator=trainer.data_collator,
            compute_loss_func=trainer.compute_loss_func,
            trainer=trainer,
        )
    )


def refuse_trained_on(dataset: Any, trained: RowDigests, *, blindly: bool) -> None:
    """Refuse to measure on records that are trained on.

    Args:
        dataset: what is about to be measured on.
        trained: what is trained on.
        blindly: who is measured was settled without looking at what is trained on.

    Raises:
        BadInput: some records are in both, or it is a stream, of which that cannot be known.
    """
    if not blindly and not hasattr(dataset, "__len__"):
        raise BadInput(
            f"evaluating on {type(dataset).__name__}",
            "a stream cannot be compared with what is trained on, and no noise covers losses of that",
            "Give a dataset that has a length.",
        )
    shared = 0 if blindly else len(rows_of(_token_ids(dataset)).shared(trained))
    if shared:
        raise BadInput(
            f"{shared} of {len(dataset)} records to evaluate or predict",
            "are trained on too, and no noise covers their exact losses and predictions",
            "Give other records.",
        )


def refuse_broken(model: nn.Module) -> None:
    """Refuse to go on with weights that are not finite.

    Raises:
        Diverged: a weight is infinite, or no number.
    """
    broken = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    if broken:
        raise Diverged(
            "training",
            f"{len(broken)} weights, {broken[0]} first, are not finite any more (checkpoints are kept, and what was "
            "spent is spent)",
            "Start over in another folder with a lower --learning_rate.",
        )


def chosen(units: Sequence[T]) -> list[list[T]]:
    """Of units that are sorted by length two groups: three that differ as much as can be, and the two shortest, as how
    norms are taken depends on the longest of a group.

    >>> chosen([10, 11, 12, 13, 14])
    [[10, 14, 12], [10, 11]]
    """
    n = len(units)
    differing = dict.fromkeys([0, n - 1, n // 2] if n else [])
    return [[units[place] for place in differing], list(units[:2])] if n > 1 else [list(units)]


def _token_ids(dataset: Any) -> Iterator[npt.NDArray[np.int64]]:
    """Of each record, one at a time; a stream has none."""
    yield from (tokens_of(item).ids for item in dataset) if hasattr(dataset, "__len__") else ()
