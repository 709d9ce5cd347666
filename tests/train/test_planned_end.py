# SPDX-License-Identifier: Apache-2.0
"""A private training that ends before its plan does is kept, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from reticent.core.record import Record
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.planned_end import NAME, planned_end
from reticent.train.trainer import LOG, tune

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of the customer {i}") for i in range(24)]


class StopAt(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == self.step


@pytest.mark.parametrize("stop", [2, 99])
def test_an_early_end_is_named_and_its_promise_is_that_of_all_planned_steps(
    tmp_path: Path, stop: int, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(save_tiny(tmp_path / "base"))
    config = TuneConfig(learning_rate=1e-3, epochs=1, batch_size=6, max_tokens=32)
    out = tune(base, RECORDS, tmp_path / "out", config, callbacks=[StopAt(stop)], privacy=PrivacySpec(epsilon=8))
    steps = min(stop, 4)
    assert PrivacyGuarantee.from_json((out / "privacy.json").read_text()).steps == 4
    last = json.loads((out / LOG).read_text())["self_check"][-1]
    assert last["name"] == NAME
    assert last["passed"] is (True if steps == 4 else None)
    assert "all planned steps are promised" in last["bound"]
    said = "".join(capsys.readouterr())
    assert (f"{NAME}: 2 of 4, and not 4" in " ".join(said.split())) == (steps == 2)


def test_what_an_end_is_called() -> None:
    assert planned_end(30, 30).passed is True
    assert planned_end(17, 30).passed is None
    assert planned_end(17, 30).measured == "17 of 30"
