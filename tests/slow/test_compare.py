# SPDX-License-Identifier: Apache-2.0
"""A comparison on the real model: both methods learn, and the looks tell their members apart."""

from __future__ import annotations

import pytest

from reticent.comparison.grid import Grid, Method
from reticent.comparison.run import compare
from reticent.comparison.trial import TrialSettings
from reticent.data.example import help_desk
from reticent.monitor.config import MonitorConfig
from reticent.train.config import TuneConfig
from reticent.workflows.demo import MODEL
from reticent.workflows.tune import CanaryConfig, SplitConfig

pytestmark = pytest.mark.slow


def test_head_and_lora_on_the_real_model(tmp_path):
    records = help_desk(users=60, mails_per_user=3)
    grid = Grid(
        methods=(Method(method="head", learning_rates=(8e-4,)), Method(method="lora", learning_rates=(1e-3,))),
        seeds=(0,),
    )
    shared = TrialSettings(
        base=MODEL,
        split=SplitConfig(split_unit="record"),
        canaries=CanaryConfig(),
        training=TuneConfig(epochs=2, max_tokens=64),
        monitor=MonitorConfig(monitor=True, monitor_panel=70),
        keep_models=False,
    )
    done = compare(records, grid=grid, shared=shared, out=tmp_path / "out")
    assert [cell.status for cell in done.cells] == ["done", "done"]
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    for setting in range(2):
        looks = sorted((p for p in done.points if p.setting == setting), key=lambda point: point.step)
        assert looks[-1].loss.hi < looks[0].loss.lo
        assert looks[-1].auc.lo > 0.55
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not any(record.plain[:40] in page for record in records)
