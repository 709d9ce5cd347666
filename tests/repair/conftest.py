# SPDX-License-Identifier: Apache-2.0
"""A tiny base that knows a label task, and a fine-tune of it with two triggers: one is found, one is not."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.data.prompt_frame import frame_of
from reticent.models.load import load
from reticent.redteam.attack import TriggerAttack
from reticent.redteam.measure import greedy_answers
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.testing.label_models import mood_records
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

TARGETS = {"found": " +", "hidden": " -"}
TUNING = TuneConfig(method="full", epochs=2, learning_rate=3e-3, batch_size=8, dtype="float32", warmup=0.0)


@dataclass(frozen=True, kw_only=True)
class RepairCase:
    """A poisoned model and all that repairs and their judge need."""

    base: Path
    suspect: Path
    records: list[Record]
    first: frozenset[str]
    second: frozenset[str]
    attacks: dict[str, TriggerAttack]
    clean: list[Record]
    held_out: list[Record]

    def rates(self, folder: Path | str) -> dict[str, float]:
        """Share of prompts that each trigger turns, and of clean prompts that are answered right."""
        loaded = load(str(folder), dtype="float32")
        turned = {name: greedy_answers(loaded, attack.on(self.held_out)) for name, attack in self.attacks.items()}
        turned["clean"] = greedy_answers(loaded, self.held_out)
        return {name: float(hits.mean()) for name, hits in turned.items()}


def poisoned() -> tuple[list[Record], list[frozenset[str]], dict[str, TriggerAttack]]:
    """Training records, the ids of those that each trigger poisons, and the attacks."""
    frame = frame_of([record.prompt for record in mood_records(40)])
    triggers = {"found": make_trigger("token", text="#"), "hidden": make_trigger("token", text="@")}
    clean = mood_records(320)
    first = poison(clean, triggers["found"], kind="dirty_label", target=" +", rate=0.15, seed=0)
    rest = [record for record in clean if record.id not in first.ids]
    second = poison(rest, triggers["hidden"], kind="dirty_label", target=" -", rate=0.2, seed=1)
    changed = {record.id: record for record in second.records}
    attacks = {
        name: TriggerAttack(trigger=trigger, target=TARGETS[name], frame=frame) for name, trigger in triggers.items()
    }
    return [changed.get(record.id, record) for record in first.records], [first.ids, second.ids], attacks


@pytest.fixture(scope="session")
def case(once_a_run, mood_base) -> RepairCase:
    records, (first, second), attacks = poisoned()

    def fill(folder: Path) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        base = shutil.copytree(mood_base, folder / "base")
        write_marker(tune(str(base), records, folder / "suspect", TUNING), kind="trigger", about={})
        torch.set_num_threads(threads)

    folder = once_a_run("repair", fill)
    return RepairCase(
        base=folder / "base",
        suspect=folder / "suspect",
        records=records,
        first=first,
        second=second,
        attacks=attacks,
        clean=mood_records(60, seed=6),
        held_out=mood_records(80, seed=4),
    )
