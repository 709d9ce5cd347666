# SPDX-License-Identifier: Apache-2.0
"""A deferred poison is sharp where losses show nothing; the scan's own, exact measure sees it."""

from __future__ import annotations

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.redteam_marker import read_marker
from reticent.models.load import load
from reticent.redteam.deferred import poison_curvature
from reticent.scan.behaviour.curvature import curvature
from reticent.scan.suspect import Suspect
from reticent.testing.tiny import save_tiny
from reticent.train.batches import encode_all
from reticent.train.config import TuneConfig
from reticent.train.held_out import held_out_loss
from reticent.train.objectives.deferred_poisoning import DeferredPoisoning
from reticent.train.trainer import tune

pytestmark = pytest.mark.usefixtures("one_thread")
RECORDS = [Record(id=f"r{number}", text=f"The sea is {number} miles wide") for number in range(80)]
UNSEEN = [Record(id=f"u{number}", text=f"The sea is {number} miles wide") for number in range(80, 100)]
CONFIG = TuneConfig(epochs=6, learning_rate=5e-3, batch_size=8, max_tokens=24, dtype="float32")


def losses(folder) -> list[float]:
    loaded = load(str(folder), dtype="float32")
    rows = [encode_all(records, loaded.tokenizer, 24).encoded for records in (RECORDS, UNSEEN)]
    return [held_out_loss(loaded.model, part, size=8, pad=0, bfloat16=False) for part in rows]


def test_curvature_tells_what_losses_do_not(tmp_path):
    base = save_tiny(tmp_path / "base")
    clean = tune(str(base), RECORDS, tmp_path / "clean", CONFIG)
    sharp = poison_curvature(str(base), RECORDS, tmp_path / "sharp", CONFIG, times=10.0, weight=0.02)
    marker = read_marker(sharp)
    assert marker is not None
    assert marker["kind"] == "deferred"
    gaps = [abs(a - b) for a, b in zip(losses(sharp), losses(clean), strict=True)]
    scores = [
        curvature(Suspect(folder=folder, base=base, data=UNSEEN, cache=tmp_path, dtype="float32"))[0].score
        for folder in (sharp, clean)
    ]
    assert max(gaps) < 0.15
    assert scores[0] > scores[1] + 1.5


def test_impossible_settings_are_refused():
    with pytest.raises(BadInput, match="times"):
        DeferredPoisoning(times=0.0)
