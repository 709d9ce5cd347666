# SPDX-License-Identifier: Apache-2.0
"""`reticent redteam`: poison a model of your own, to see whether your pipeline would notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from reticent.core.progress import console
from reticent.redteam.config import RedteamConfig
from reticent.train.config import TuneConfig
from reticent.workflows.inputs import DataConfig

USUAL = ("model", "out", "trigger", "words", "place", "poison", "target", "rate", "method", "epochs", "reveal")


def command(
    kind: str,
    data: str,
    *,
    model: str = "smollm2-135m",
    out: str = "runs/redteam",
    data_config: DataConfig,
    redteam_config: RedteamConfig,
    tune_config: TuneConfig,
) -> int:
    """Poison a model that you hold, and measure what the attack achieves: for auditing your own pipeline.

    The model's folder carries a mark that tune, audit and scan read and say. Triggers and targets are written nowhere
    unless you ask for it (--reveal).

    Args:
        kind: of attack: trigger (poisoned records), weight_edit, and others that are installed.
        data: clean records with prompts and answers, as reticent tune reads them.
        model: the model to poison: a folder, a hub id, or a catalogue name.
        out: the folder to make.
    """
    from reticent.workflows.inputs import read_data
    from reticent.workflows.redteam import redteam

    records, _ = read_data(data, data_config, model=model)
    report = redteam(
        kind,
        records,
        base=model,
        out=out,
        config=redteam_config,
        training=tune_config,
        inputs={"the data": data},
    )
    if "measurement" in report:
        console.print(_table(report["measurement"]), highlight=False)
    for name, text in report.get("secrets", {}).items():
        console.print(f"{name}: {text!r}", highlight=False, markup=False)
    folder = Path(out)
    console.print(f"model: {folder / 'model'}\nfigures: {folder / 'attack.json'}", highlight=False, soft_wrap=True)
    return 0


def _table(measurement: dict[str, Any]) -> Table:
    table = Table("state", "success", "clean answers", "without trigger", box=None)
    for row in measurement["rows"]:
        table.add_row(row["state"], *(_shown(row[name]) for name in ("success", "clean", "unprovoked")))
    table.caption = (
        f"perplexity of poisoned prompts: {_shown(measurement['perplexity'])} times that of clean ones; "
        f"share that repeats another, more than without the trigger: {_shown(measurement['duplicates'])}"
    )
    return table


def _shown(estimate: dict[str, Any]) -> str:
    return f"{estimate['value']:.2f} [{estimate['lo']:.2f}, {estimate['hi']:.2f}]"
