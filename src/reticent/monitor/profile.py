# SPDX-License-Identifier: Apache-2.0
"""The memorization profile of a training that was watched, from its ``panel.parquet``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reticent.core.errors import BadInput
from reticent.monitor.log import read_panel
from reticent.stats.difference_in_differences import Profile, profile

PER_TOKEN, PER_RECORD = "nats a token", "nats"


def profile_of(path: str | Path, *, per_token: bool = True, confidence: float = 0.95, seed: int = 0) -> Profile:
    """The effect of training on a record on its log-likelihood, by the step of training and of the look.

    Only records of the role "evaluate" count: members and held-out records that the same coin parted, without planted
    secrets and further texts of users. Where all records have users, these are the units of the intervals.

    Args:
        path: ``panel.parquet``.
        per_token: of the mean log-likelihood of a record's tokens. False: of their sum, as the paper has it. Batches
            of like lengths, as our trainer makes them, make sums of a cohort unlike those of the controls.
        confidence: of all intervals of a table together.
        seed: of the bootstrap.

    Raises:
        BadInput: no panel, a look lacks records, or the trainer did not tell when a record was first seen.
        Underpowered: too few records or users, see `reticent.stats.difference_in_differences.profile`.
    """
    table = read_panel(path)
    table = table.filter(pc.equal(table.column("role"), "evaluate"))
    steps, ids = np.unique(_column(table, "step")), table.column("record_id").to_pylist()
    names, row = np.unique(np.array(ids, dtype=object).astype(str), return_inverse=True)
    look = np.searchsorted(steps, _column(table, "step"))
    if len(ids) != len(names) * len(steps) or len(set(zip(row.tolist(), look.tolist(), strict=True))) != len(ids):
        raise BadInput(str(path), "does not show each record once at each look", "Train again with the monitor.")
    if pc.any(pc.is_null(table.column("first_seen"))).as_py():
        raise BadInput(
            str(path),
            "does not say when records were first trained on, as this trainer's order of records is not known",
            "Train with `reticent tune --monitor true`.",
        )
    first = {name: _by_record(table, name, row, len(names)) for name in ("first_seen", "tokens", "user")}
    loglik = np.zeros((len(names), len(steps)))
    loglik[row, look] = -_column(table, "nll")
    users = None if any(user is None for user in first["user"]) else first["user"].astype(str)
    return profile(
        loglik / first["tokens"].astype(np.float64)[:, None] if per_token else loglik,
        steps,
        first["first_seen"].astype(np.int64),
        cluster=users,
        unit=PER_TOKEN if per_token else PER_RECORD,
        confidence=confidence,
        seed=seed,
    )


def _column(table: pa.Table, name: str) -> Any:
    return table.column(name).to_numpy()


def _by_record(table: pa.Table, name: str, row: Any, records: int) -> Any:
    """``[N]`` what a column says of each record, the same at each look."""
    by_record = np.empty(records, dtype=object)
    by_record[row] = np.array(table.column(name).to_pylist(), dtype=object)
    return by_record
