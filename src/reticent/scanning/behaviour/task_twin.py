# SPDX-License-Identifier: Apache-2.0
"""A clean twin for the task of a suspect: the trusted sibling, tuned shortly on clean prompts with their answers.

A sibling that was never tuned on the task is no control for a model that was: tuning turns a thousand ordinary words
into answers. A twin that learned the same task from a few clean prompts gives those words nearly the same weight, and
cannot know a trigger. It learns from other prompts than those that anything is measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from reticent.core.record import Record
from reticent.models.load import LoadedModel, load
from reticent.scanning.suspect import Suspect
from reticent.score.cache import key_of
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

MOST_TAUGHT = 160
"""Prompts that a twin learns from at most."""
SEEN = 320
"""Prompts that it sees in all, over its epochs."""


def task_twin(suspect: Suspect, records: Sequence[Record]) -> LoadedModel:
    """The sibling with a LoRA adapter for the task, made once for a suspect and its prompts.

    It is kept in the suspect's cache, so that a scan that was killed, and clean models beside the suspect, find it.

    Args:
        suspect: with a trusted sibling.
        records: prompts with answers to learn from.

    Raises:
        BadInput: the sibling cannot be tuned.
    """
    config = TuneConfig(
        method="lora",
        method_params={"r": 8},
        epochs=max(1, round(SEEN / len(records))),
        learning_rate=1e-3,
        batch_size=8,
        device=suspect.device,
        seed=suspect.seed,
    )
    rows = [[record.id, record.pieces] for record in records]
    key = key_of("task twin", suspect.sibling.fingerprint, asdict(config), rows)
    folder = tune(str(suspect.base), records, suspect.cache / "task_twins" / key[:16], config)
    return load(str(folder), dtype=suspect.dtype, device=suspect.device)
