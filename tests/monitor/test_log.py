# SPDX-License-Identifier: Apache-2.0
"""monitor.json and panel.parquet come back as they were written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.progress import console
from reticent.core.snapshot import Snapshot, TrainingHistory
from reticent.monitor.log import PANEL_SCHEMA, read_history, read_panel, write_history, write_panel
from reticent.monitor.progress_table import line, table


def estimate(value: float, hi: float = 9.0) -> Estimate:
    return Estimate(value=value, lo=value - 1, hi=hi, n=10, method="made up")


def watch() -> TrainingHistory:
    first = Snapshot(
        step=0,
        epoch=0.0,
        held_out_loss=estimate(3),
        member_loss=estimate(3),
        gap=estimate(0),
        tpr_at_10pct_fpr=None,
        auc=None,
        exposure={"planted once": estimate(2, math.inf)},
    )
    last = Snapshot(
        step=7,
        epoch=0.5,
        held_out_loss=estimate(2),
        member_loss=estimate(1),
        gap=estimate(1),
        tpr_at_10pct_fpr=estimate(0.3),
        auc=estimate(0.6),
        phase="fitting",
        refused=("tpr@0.01: too few", "user_auc: no users"),
        seconds=1.5,
        trained_seconds=20.0,
    )
    return TrainingHistory(
        moments=(first, last), members=5, held_out=5, users=3, training_seconds=20.0, watching_seconds=2.0, stopped="x"
    )


def test_a_watch_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "monitor.json"
    write_history(path, watch())
    assert read_history(path) == watch()
    found = json.loads(path.read_text())
    assert found["moments"][0]["exposure"]["planted once"]["hi"] is None
    assert found["overhead"] == 0.1


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": "reticent.monitor", "schema_version": 2, "moments": [3]}']
)
def test_what_is_no_watch_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "monitor.json"
    with pytest.raises(BadInput, match="missing"):
        read_history(path)
    path.write_text(text)
    with pytest.raises(BadInput):
        read_history(path)


def as_version_1(content: dict) -> dict:
    """What version 1 wrote: the same numbers under other names."""
    for moment in content["moments"]:
        moment["recall"], moment["tpr"] = moment.pop("tpr_at_10pct_fpr"), moment.pop("tpr_at_1pct_fpr")
        moment["refused"] = [
            reason.replace("tpr@0.1:", "recall:").replace("tpr@0.01:", "tpr:") for reason in moment["refused"]
        ]
    return content | {"schema_version": 1}


def test_a_file_of_version_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "monitor.json"
    write_history(path, watch())
    older = as_version_1(json.loads(path.read_text()))
    path.write_text(json.dumps(older))
    assert read_history(path) == watch()
    for broken in ({"moments": 3}, {"moments": [3]}, {"moments": [{"refused": [3]}]}, {"moments": [{"refused": 3}]}):
        path.write_text(json.dumps(older | broken))
        with pytest.raises(BadInput, match="broken"):
            read_history(path)
    path.write_text(json.dumps(older | {"schema_version": 3}))
    with pytest.raises(BadInput, match="version 2"):
        read_history(path)


def test_a_panel_comes_back(tmp_path: Path) -> None:
    row = {"step": 0, "record_id": "a", "user": None, "user_member": True, "member": True, "role": "evaluate"}
    row |= {"tier": None, "nll": 1.0, "base_nll": 2.0, "tokens": 3, "first_seen": None}
    made = pa.Table.from_pylist([row], schema=PANEL_SCHEMA)
    write_panel(tmp_path / "panel.parquet", made)
    assert read_panel(tmp_path / "panel.parquet").equals(made)
    with pytest.raises(BadInput, match="missing"):
        read_panel(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(BadInput, match="no readable panel"):
        read_panel(tmp_path / "broken.parquet")


def test_words() -> None:
    said = line(watch().moments[1])
    assert said.startswith("epoch 0.50: held-out perplexity 7.39")
    assert said.endswith("fitting")
    with console.capture() as caught:
        console.print(table(watch()))
    for word in ("7.39", "30%", "Too few records for tpr@0.01, user_auc", "Stopped early: x", "10.0%"):
        assert word in caught.get()
    assert "user AUC" not in caught.get()
