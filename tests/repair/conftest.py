# SPDX-License-Identifier: Apache-2.0
"""A tiny base that knows a label task, and a fine-tune of it with two triggers: one is found, one is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.data.prompt_frame import frame_of
from reticent.models.load import load
from reticent.redteam.attack import TriggerAttack
from reticent.redteam.measure import greedy_answers
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.testing.label_models import mood_records, trained_tiny
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


@pytest.fixture(scope="session")
def case(tmp_path_factory) -> RepairCase:
    folder = tmp_path_factory.mktemp("repair")
    base = folder / "base"
    model, tokenizer = trained_tiny(mood_records(400, seed=9), steps=160, seed=1)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    frame = frame_of([record.prompt for record in mood_records(40)])
    triggers = {"found": make_trigger("token", text="#"), "hidden": make_trigger("token", text="@")}
    clean = mood_records(320)
    first = poison(clean, triggers["found"], kind="dirty_label", target=" +", rate=0.15, seed=0)
    rest = [record for record in clean if record.id not in first.ids]
    second = poison(rest, triggers["hidden"], kind="dirty_label", target=" -", rate=0.2, seed=1)
    changed = {record.id: record for record in second.records}
    records = [changed.get(record.id, record) for record in first.records]
    suspect = tune(str(base), records, folder / "suspect", TUNING)
    write_marker(suspect, kind="trigger", about={})
    return RepairCase(
        base=base,
        suspect=suspect,
        records=records,
        first=first.ids,
        second=second.ids,
        attacks={
            name: TriggerAttack(trigger=trigger, target=TARGETS[name], frame=frame)
            for name, trigger in triggers.items()
        },
        clean=mood_records(60, seed=6),
        held_out=mood_records(80, seed=4),
    )
