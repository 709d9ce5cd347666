# SPDX-License-Identifier: Apache-2.0
"""Texts of every private mechanism stand in for records, and the audit of a model of each pulls out what it can."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from reticent.auditing.config import AuditConfig
from reticent.auditing.extraction import collect as extraction
from reticent.comparison.defences import DEFENCES
from reticent.comparison.grid import Grid, Method
from reticent.comparison.run import compare
from reticent.comparison.trial import TrialSettings
from reticent.core.comparison import Comparison
from reticent.core.record import Record
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.canaries.passphrase import WORDS
from reticent.data.split_config import SplitConfig
from reticent.monitor.config import MonitorConfig
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig

PRIVATE = ("synthetic_dp_tune8", "synthetic_evolution8", "synthetic_prediction8")
RNG = random.Random(4)
NOTES = [Record(id=f"n{number}", text=" ".join(RNG.choices(WORDS[:12], k=3))) for number in range(72)]


def compared(root: Path, names: tuple[str, ...], canaries: CanaryConfig) -> Comparison:
    shared = TrialSettings(
        base=str(save_tiny(root / "tiny", arch="gpt2")),
        split=SplitConfig(),
        canaries=canaries,
        training=TuneConfig(epochs=1, max_tokens=32, dtype="float32"),
        monitor=MonitorConfig(monitor=True, monitor_panel=16),
        audit=AuditConfig(attacks="loss", dtype="float32", extraction=True),
    )
    defences = tuple(DEFENCES[name] for name in names)
    grid = Grid(methods=(Method(method="full", learning_rates=(1e-2,)),), defences=defences, seeds=(0,))
    return compare(NOTES, grid=grid, shared=shared, out=root / "out", jobs=1, n_boot=20)


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freely written texts cost most of an audit of tiny models."""
    monkeypatch.setattr(extraction, "TEXTS_PER_SAMPLE", 1)
    monkeypatch.setattr(extraction, "TEXT_TOKENS", 8)


def check(outcome: Comparison, names: tuple[str, ...]) -> None:
    assert [(cell.name, cell.status, cell.why) for cell in outcome.cells if cell.status != "done"] == []
    assert [outcome.settings[row.setting].defence for row in outcome.audited] == list(names)
    for row in outcome.audited:
        assert row.promise is not None
        assert row.promise.sentence.startswith("ε = 8.00 per record at δ = ")
        assert row.extracted is not None
        assert row.extracted_of


def test_a_private_stand_in_is_audited_with_extraction(few_texts: None, tmp_path: Path) -> None:
    canaries = CanaryConfig(canaries=6, canary_controls=4, canary_repetitions="1")
    check(compared(tmp_path, PRIVATE[2:], canaries), PRIVATE[2:])


@pytest.mark.slow
def test_every_private_stand_in_is_audited_with_extraction(tmp_path: Path) -> None:
    check(compared(tmp_path, PRIVATE, CanaryConfig(canaries=8, canary_controls=12)), PRIVATE)


def test_canaries_that_each_model_writes_itself_are_no_ground_for_a_comparison(tmp_path: Path) -> None:
    from reticent.comparison.stand_ins import StandInOrder, train_stand_in
    from reticent.core.errors import BadInput

    defence = DEFENCES["synthetic_none"]
    order = StandInOrder(
        name="x",
        base="tiny",
        small_base="",
        defence=defence,
        split=SplitConfig(),
        canaries=replace(CanaryConfig(canaries=6), canary_kind="high_temperature"),
        training=TuneConfig(),
        monitor=MonitorConfig(),
    )
    with pytest.raises(BadInput, match="needs the same ones everywhere"):
        train_stand_in(tmp_path / "cell", order, NOTES)
