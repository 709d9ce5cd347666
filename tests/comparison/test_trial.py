# SPDX-License-Identifier: Apache-2.0
"""How a training ended is told by the type of its error, whatever that is called or says."""

from __future__ import annotations

from pathlib import Path

import pytest

from reticent.comparison import trial
from reticent.comparison.defences import DEFENCES
from reticent.comparison.grid import Method, Trial
from reticent.core.errors import BadInput, Unusable
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.monitor.config import MonitorConfig
from reticent.train.config import TuneConfig
from reticent.train.diverged import Diverged


class Exploded(Diverged):
    """A kind of it with another name."""


class _Named:
    class Diverged(BadInput):
        """Another error of the same name."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Diverged, "diverged"),
        (Exploded, "diverged"),
        (_Named.Diverged, "refused"),
        (BadInput, "refused"),
        (Unusable, "failed"),
    ],
)
def test_how_a_training_ended_follows_from_the_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BadInput], status: str
) -> None:
    def fails(*args: object) -> None:
        raise error("learning_rate=1", "the loss is not finite, the training diverged", "Choose another.")

    monkeypatch.setattr(trial, "_train", fails)
    cell = Trial(setting=0, method=Method(method="full"), learning_rate=1.0, defence=DEFENCES["none"], seed=0)
    shared = trial.TrialSettings(
        base="m", split=SplitConfig(), canaries=CanaryConfig(), training=TuneConfig(), monitor=MonitorConfig()
    )
    assert trial.run_trial(tmp_path / "cell", cell, shared, [], "key").status == status
