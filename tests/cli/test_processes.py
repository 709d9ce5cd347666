# SPDX-License-Identifier: Apache-2.0
"""Every verb, and every entry from Python, refuses to be one of several processes, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reticent
from reticent.cli.main import _verbs, main
from reticent.comparison.grid import Grid, Method
from reticent.comparison.trial import TrialSettings
from reticent.core.errors import BadInput
from reticent.core.processes import ALONE, HARMLESS, SHARED
from reticent.core.record import Record
from reticent.monitor.config import MonitorConfig
from reticent.train.config import TuneConfig
from reticent.workflows.prepare import prepare

ARGUMENTS = {
    "audit": ["run"],
    "compare": ["data.jsonl"],
    "demo": [],
    "fetch-model": [],
    "gate": ["results.json"],
    "prepare": ["data.jsonl"],
    "report": ["run"],
    "tune": ["data.jsonl"],
    "view": ["run"],
}


@pytest.fixture(autouse=True)
def two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"mail {i} {user}", "user": f"u{user}"} for user in range(12) for i in range(4)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")


@pytest.mark.parametrize("verb", sorted(set(_verbs()) - HARMLESS - SHARED))
def test_every_verb_refuses_and_writes_nothing(tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, *ARGUMENTS.get(verb, [])]) == 2
    said = capsys.readouterr().err
    assert f"WORLD_SIZE=2: reticent {verb} was started as one of 2 processes" in said
    assert "Start one process" in said
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_the_tables_name_verbs_that_there_are() -> None:
    assert HARMLESS | SHARED | set(ALONE) <= set(_verbs())


def test_what_is_harmless_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for harmless in sorted(HARMLESS):
        assert main([harmless]) == 0
    with pytest.raises(SystemExit) as ended:
        main(["tune", "--help"])
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0


MAILS = [Record(id=f"u{i}", text=f"mail {i}", user=f"u{i % 12}") for i in range(48)]


def compared(out: Path) -> Any:
    shared = TrialSettings(
        base="base",
        split=reticent.SplitConfig(),
        canaries=reticent.CanaryConfig(),
        training=TuneConfig(),
        monitor=MonitorConfig(),
    )
    return reticent.compare(MAILS, grid=Grid(methods=(Method(method="full"),)), shared=shared, out=out)


@pytest.mark.parametrize(
    "start",
    [
        lambda out: reticent.tune(MAILS, base="base", out=out),
        lambda out: reticent.audit(out),
        compared,
        lambda out: prepare(MAILS, out=out / "prepared.parquet"),
    ],
    ids=["tune", "audit", "compare", "prepare"],
)
def test_from_python_too(tmp_path: Path, start: Callable[[Path], Any]) -> None:
    with pytest.raises(BadInput, match="WORLD_SIZE=2"):
        start(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]
