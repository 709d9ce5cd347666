# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of an unfinished training: which of them is whole, and whether it is the training that is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.train.seen_rows import SeenRows

_KEY = "training.json"
WHOLE = "whole"
"""In a checkpoint all of whose files were written."""


class MarkWhole(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint once all its files are written. Without the mark it does not count.

    Args:
        seen: what the mark holds.
    """

    def __init__(self, seen: SeenRows) -> None:
        self.seen = seen

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.seen.write(Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE)


def folder_for(out: Path) -> Path:
    """Where checkpoints of the training of ``out`` lie: beside it, hidden."""
    return out.with_name(f".{out.name}.training")


def open_folder(out: Path, key: str, *, resume: bool) -> Path | None:
    """Prepare the folder for checkpoints and return the last whole one, or None to start from the beginning.

    Half-written checkpoints are removed.

    Raises:
        BadInput: the folder holds an unfinished training of something else.
    """
    folder = folder_for(out)
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        if _read_key(folder) not in (None, key):
            raise BadInput(
                str(out),
                "holds an unfinished training with other settings, data or base",
                "Choose another folder (--out), or start over (--resume false).",
            )
        for checkpoint in folder.glob("checkpoint-*"):
            if not (checkpoint / WHOLE).exists():
                shutil.rmtree(checkpoint)
    write_text(folder / _KEY, json.dumps({"key": key}) + "\n")
    whole = [path for path in folder.glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def close_folder(out: Path) -> None:
    """Remove the checkpoints; the training is done or not worth going on with."""
    shutil.rmtree(folder_for(out), ignore_errors=True)


def _read_key(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _KEY).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError):
        return None


def remember(out: Path, key: str, exact: Mapping[str, float]) -> None:
    """Note beside ``out`` which private training made it, and figures of the data. Not in it: they are exact."""
    write_text(_note(out), json.dumps({"key": key, **exact}) + "\n")


def recall(out: Path) -> str | None:
    """The key that `remember` noted, or None."""
    key = recall_exact(out).get("key")
    return None if key is None else str(key)


def recall_exact(out: Path) -> dict[str, Any]:
    """All that `remember` noted; empty where there is nothing. Not to be published."""
    try:
        return dict(json.loads(_note(out).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _note(out: Path) -> Path:
    return out.with_name(f".{out.name}.tuned.json")
