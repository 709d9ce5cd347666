# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reticent.core.errors import BadInput
from reticent.monitor.log import PANEL_SCHEMA, write_panel
from reticent.monitor.profile import profile_of
from reticent.stats.difference_in_differences import profile

STEPS = (0, 5, 10, 20)


def panel(path: Path, *, users: bool = True, **changes: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A panel of 60 records that are compared and 5 others, its rows shuffled; log-likelihoods, first steps, users."""
    rng = np.random.default_rng(0)
    seen = np.concatenate([rng.integers(1, 11, 30), np.full(30, -1)])
    tokens = rng.integers(5, 50, 60)
    loglik = -tokens[:, None] * (3 - 0.01 * np.array(STEPS) + rng.normal(0, 0.02, (60, 4)))
    loglik += tokens[:, None] * 0.5 * ((seen > 0)[:, None] & (seen[:, None] <= np.array(STEPS)))
    owner = rng.integers(0, 12, 60)
    rows = []
    for look, step in enumerate(STEPS):
        for i in range(65):
            other = i >= 60
            row = {
                "step": step,
                "record_id": f"r{i}",
                "user": f"u{owner[i % 60]}" if users else None,
                "user_member": True,
                "member": not other and bool(seen[i] > 0),
                "role": "fresh" if other else "evaluate",
                "tier": None,
                "nll": 1e6 * look if other else -loglik[i, look],
                "base_nll": 1.0,
                "tokens": int(tokens[i % 60]),
                "first_seen": -1 if other else int(seen[i]),
            }
            rows.append(row | changes)
    rng.shuffle(rows)
    write_panel(path, pa.Table.from_pylist(rows, schema=PANEL_SCHEMA))
    order = np.argsort([f"r{i}" for i in range(60)])
    return loglik[order] / tokens[order, None], seen[order], owner[order]


def test_it_reads_what_the_monitor_wrote(tmp_path: Path) -> None:
    loglik, seen, owner = panel(tmp_path / "panel.parquet")
    found = profile_of(tmp_path / "panel.parquet")
    direct = profile(loglik, STEPS, seen, cluster=[f"u{u}" for u in owner], unit="nats a token")
    assert found == direct
    assert found.instantaneous.did.value == pytest.approx(0.5, abs=0.05)


def test_sums_and_records_without_users(tmp_path: Path) -> None:
    panel(tmp_path / "panel.parquet", users=False)
    mean, total = (profile_of(tmp_path / "panel.parquet", per_token=one) for one in (True, False))
    assert "user" not in mean.residual.did.method
    assert (mean.residual.did.unit, total.residual.did.unit) == ("nats a token", "nats")
    assert mean.placebo is not None
    assert total.residual.did.value > 5 * mean.residual.did.value


def test_unknown_order_and_holes_are_refused(tmp_path: Path) -> None:
    panel(tmp_path / "panel.parquet", first_seen=None)
    with pytest.raises(BadInput, match="order of records is not known"):
        profile_of(tmp_path / "panel.parquet")
    panel(tmp_path / "panel.parquet", record_id="one")
    with pytest.raises(BadInput, match="each record once"):
        profile_of(tmp_path / "panel.parquet")
    with pytest.raises(BadInput, match="is missing"):
        profile_of(tmp_path / "none.parquet")
