# SPDX-License-Identifier: Apache-2.0
"""Look at a panel once a private training is done: during it, losses of members would tell what ε does not cover.

What is seen here is an audit of the finished model. It is for the person who holds the data, and is not covered by the
promise either: `comparison.json` of a private training should be shown as an audit report would be.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa

from reticent.core.membership import read_membership
from reticent.core.record import read_records
from reticent.core.run_folder import RunFolder
from reticent.core.snapshot import Snapshot, TrainingHistory
from reticent.data.canaries import read_canaries
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.monitor.config import MonitorConfig
from reticent.monitor.log import panel_rows, write_history, write_panel
from reticent.monitor.look import PanelPass, finite, snapshot_of
from reticent.monitor.panel import Panel, make_panel
from reticent.monitor.passes import Passes
from reticent.train.config import TuneConfig


def evaluate_after(
    run: RunFolder,
    *,
    base: str,
    monitor: MonitorConfig,
    training: TuneConfig,
    steps: int,
    epochs: float,
    seconds: float,
) -> None:
    """Write the log of two looks, at the base and at the finished model, as the monitor writes its own.

    Args:
        run: with a model.
        base: what it was trained from.
        monitor: how large the panel is.
        training: ``max_tokens``, ``dtype`` and ``device``.
        steps, epochs, seconds: of the training.
    """
    if run.monitor.exists() and run.panel.exists():
        return
    coins, records = read_membership(run.membership), read_records(run.records)
    canaries = read_canaries(run.canaries) if run.canaries.exists() else ()
    panel = make_panel(records, coins, canaries, size=monitor.monitor_panel)
    loaded = load(base, dtype="float32", device=training.device)
    rows = [encode(record, loaded.tokenizer, max_tokens=training.max_tokens) for record in panel.records]
    has_prediction = np.array([row.predicted > 0 for row in rows])
    panel = panel.take(has_prediction)
    passes = Passes(
        rows=[row for row, is_read in zip(rows, has_prediction, strict=True) if is_read], dtype=training.dtype
    )
    started = time.perf_counter()
    before = finite(passes.look(loaded.model), 0)
    del loaded
    after = finite(
        Passes(rows=passes.rows, dtype=training.dtype).look(
            load(str(run.model), dtype="float32", device=training.device).model
        ),
        steps,
    )
    looks = ((before, 0, 0.0), (after, steps, epochs))
    moments = [_moment(panel, look, before, step, epoch) for look, step, epoch in looks]
    watched = time.perf_counter() - started
    tables = [panel_rows(panel, look, before.nll, step=step) for look, step, _ in looks]
    write_panel(run.panel, pa.concat_tables(tables))
    people = panel.user[[user is not None for user in panel.user]]
    write_history(
        run.monitor,
        TrainingHistory(
            moments=tuple(moments),
            members=int(panel.of("evaluate", member=True).sum()),
            held_out=int(panel.of("evaluate", member=False).sum()),
            users=len(np.unique(people.astype(str))),
            training_seconds=seconds,
            watching_seconds=watched,
        ),
    )


def _moment(panel: Panel, look: PanelPass, before: PanelPass, step: int, epoch: float) -> Snapshot:
    """One look does not tell a phase; a finished model is said to be fitted."""
    return replace(snapshot_of(panel, look, before.nll, step=step, epoch=epoch), phase="fitting" if step else "start")
