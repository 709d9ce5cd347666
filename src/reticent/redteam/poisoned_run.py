# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a model on poisoned records, and mark what comes of it."""

from __future__ import annotations

from pathlib import Path

from reticent.core.redteam_marker import write_marker
from reticent.redteam.poisons.poison import PoisonedRecords
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune


def tune_poisoned(base: str, poisoned: PoisonedRecords, out: Path, config: TuneConfig | None = None) -> Path:
    """As `train.trainer.tune`, on poisoned records; the outcome carries the mark of the red team.

    The clean twin is the same call of ``tune`` on the records as they were: the same steps, order and seeds.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        poisoned: `redteam.poisons.poison.poison` makes them.
        out: the folder to make.
        config: how it is trained: full, lora, …
    """
    folder = tune(base, poisoned.records, out, config)
    about = {"records": len(poisoned.records), "poisoned": len(poisoned.ids)}
    write_marker(folder, kind="trigger", about=about)
    return folder
