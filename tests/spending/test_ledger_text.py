# SPDX-License-Identifier: Apache-2.0
"""`reticent ls --ledger`: no ε without unit, δ and relation, and nothing of the data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from reticent.cli import main as cli
from reticent.core.record import Record

RECORDS = [Record(id=f"u{i}", text=f"Kennwort {i}", user=f"mieter {i % 6}") for i in range(24)]


def run(*words: str) -> int:
    try:
        return cli.main(list(words))
    except SystemExit as left:
        return int(left.code or 0)


@pytest.fixture
def runs(tmp_path: Path, promise: Any, make_run: Any) -> Path:
    make_run(tmp_path / "runs" / "a[red]x", RECORDS, promise("user", noise=2.0))
    make_run(tmp_path / "runs" / "b", RECORDS, promise("record", noise=4.0))
    make_run(tmp_path / "runs" / "plain", RECORDS)
    bad = make_run(tmp_path / "runs" / "bad", RECORDS, promise())
    bad.promise.write_text("{", encoding="utf-8")
    make_run(tmp_path / "more" / "c", RECORDS, promise("user", noise=3.0))
    return tmp_path


def test_every_epsilon_has_its_unit_delta_and_relation(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls", str(runs / "runs"), "--ledger") == 0
    page = " ".join(capsys.readouterr().err.split())
    for said in re.findall(r"ε = [\d.]+[^.]{0,60}", page):
        assert re.match(r"ε = [\d.]+ per (user|record) at δ = ", said), said
    assert page.count("add or remove one") >= 3
    assert "2 private trainings together: at least ε = " in page
    assert "1 training could not be counted" in page
    assert "1 training on this data promised no privacy" in page
    assert "a[red]x" in page
    assert "Runs that were deleted" in page
    assert not re.search("Kennwort|mieter|u3", page)


def test_further_folders_are_added(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls", str(runs / "runs"), "--ledger", "--also", f"{runs / 'more'}, {runs / 'runs' / 'b'}") == 0
    assert "3 private trainings together" in " ".join(capsys.readouterr().err.split())


def test_nothing_private_is_said(tmp_path: Path, make_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "plain", RECORDS)
    assert run("ls", str(tmp_path), "--ledger") == 0
    assert "No private training was found" in capsys.readouterr().err


def test_a_missing_folder_and_a_flag_without_use_are_bad_input(tmp_path: Path) -> None:
    assert run("ls", str(tmp_path / "nowhere"), "--ledger") == 2
    assert run("ls", str(tmp_path), "--also", str(tmp_path)) == 2


def test_only_what_cannot_be_counted_has_no_total(
    tmp_path: Path, promise: Any, make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_run(tmp_path / "a", RECORDS, promise())
    one.promise.write_text(json.dumps(json.loads(one.promise.read_text()) | {"epsilon": 0.01}), encoding="utf-8")
    assert run("ls", str(tmp_path), "--ledger") == 0
    page = " ".join(capsys.readouterr().err.split())
    assert "None of these can be counted" in page
    assert "together:" not in page
