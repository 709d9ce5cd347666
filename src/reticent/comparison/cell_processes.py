# SPDX-License-Identifier: Apache-2.0
"""A training of a comparison in a process of its own, which says what it does in a file of the training's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from reticent.comparison.shared_cells import Cell
from reticent.comparison.trial import TrialOutcome, TrialSettings, read_outcome, working_in, write_job
from reticent.core.run_folder import RunFolder

OUTPUT = "output.txt"
"""Of a training: what its process said."""
Start = Callable[[Path, Sequence[str]], str]
"""``(folder of a cell, what `comparison.trial.main` is given)`` → why there may be no outcome, in words."""


def train_elsewhere(root: Path, cell: Cell, shared: TrialSettings, start: Start) -> TrialOutcome:
    """The outcome of a training in another process.

    Args:
        root: folder of the comparison.
        cell: to train.
        shared: by all trainings.
        start: trains it.
    """
    folder = cell.folder
    with working_in(folder):  # a process that outlived an earlier call may be at it
        outcome = read_outcome(folder, cell.key)
    if outcome is not None:
        return outcome
    RunFolder(root=folder).make()
    write_job(folder, cell.trial, shared, cell.key)
    (folder / OUTPUT).write_text("", encoding="utf-8")
    reason = start(folder, (str(root), cell.trial.name, shared.base))
    outcome = read_outcome(folder, cell.key)
    return outcome or TrialOutcome(
        key=cell.key, status="failed", why=reason or f"it left no outcome; see {OUTPUT} there"
    )


def in_process(at_once: int, folder: Path, given: Sequence[str]) -> str:
    """Train in a process of its own on this machine; how that ended, in words."""
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    threads = str(max((os.cpu_count() or 1) // at_once, 1))
    with (folder / OUTPUT).open("w", encoding="utf-8") as output:
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", "reticent.comparison.trial", *given],
            env=os.environ | dict.fromkeys(variables, threads) | {"TOKENIZERS_PARALLELISM": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return f"the process ended with {done.returncode}; see {OUTPUT} in its folder"
