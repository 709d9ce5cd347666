# SPDX-License-Identifier: Apache-2.0
"""The part of a training of those processes that follow: the same model, texts and steps as the leader's, and no file.

The leader sends what is to be trained on (`invite`) before it loads the base, so that all load it at one time, and
where to begin (`begin`) once nothing speaks against it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reticent.core.errors import BadInput
from reticent.models.tuning.method import TUNINGS
from reticent.train.assemble import arguments_for, assembled, maker, quiet, settle
from reticent.train.checkpoints import WHOLE, folder_for
from reticent.train.loop import InStep, TrainingEnded
from reticent.train.ranks import ranks
from reticent.train.task import Task, load_base, read_texts

if TYPE_CHECKING:
    from reticent.train.private.train import PrivateTuning


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Where a training begins.

    Args:
        checkpoint: what it goes on from; None to start anew.
        private: who is drawn and how much noise is added, with its key; None where nothing is promised.
    """

    checkpoint: Path | None
    private: PrivateTuning | None


def invite(task: Task) -> None:
    """Have the other processes load what is needed for ``task``. Callbacks stay with the leader."""
    given = {item.name: getattr(task, item.name) for item in fields(task) if item.name not in ("method", "callbacks")}
    ranks().all_do(_follow, given)


def begin(checkpoint: Path | None, private: PrivateTuning | None) -> None:
    """Have the other processes train."""
    ranks().tell(Beginning(checkpoint=checkpoint, private=private))


def _follow(given: dict[str, Any]) -> None:
    task = Task(**given, method=TUNINGS.get(given["config"].method), callbacks=())
    loaded = load_base(task)
    material, sample = read_texts(task, loaded)
    beginning: Beginning = ranks().hear()
    private, checkpoint = beginning.private, beginning.checkpoint
    corpus = material.corpus if private is None else private.corpus
    arguments = arguments_for(task, loaded, evaluate=bool(sample.encoded))
    settle(task, loaded, corpus, private)
    trainer, _ = assembled(task, loaded, maker(task, material, private), corpus, sample, arguments)
    if checkpoint is not None:
        if not (checkpoint / WHOLE).exists():
            raise BadInput(
                str(checkpoint),
                "cannot be seen from here, so this process cannot go on from it",
                "Give all machines one file system for --out, or start over (--resume false).",
            )
        trainer.seen.go_on(checkpoint / WHOLE)
    trainer.measured_base(folder_for(task.out), None, goes_on=checkpoint is not None)
    trainer.add_callback(InStep(trainer.seen))
    with suppress(TrainingEnded), quiet():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.follow_saving()
