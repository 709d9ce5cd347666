# SPDX-License-Identifier: Apache-2.0
"""The benchmark of repairs at its tiny size, and that a second call measures nothing again."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_tiny_size_gives_a_row_for_each_repair_and_trigger(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("repair")
    file = tmp_path / "repair.json"
    monkeypatch.setattr(sys, "argv", ["repair.py", "--tiny", "--work", str(tmp_path / "work"), "--json", str(file)])
    benchmark.main()
    result = json.loads(file.read_text(encoding="utf-8"))
    rows = {(row["repair"], row["trigger"]): row for row in result["rows"]}
    names = {"none", "token_local", "fine_prune", "rewarm", "filtering"} | {
        f"sibling_merge {weight}" for weight in (0.3, 0.5, 0.7)
    }
    assert set(rows) == {(name, trigger) for name in names for trigger in ("found", "hidden")}
    for row in rows.values():
        for number in ("success", "clean", "unprovoked", "clean_change"):
            assert row[number]["lo"] <= row[number]["value"] <= row[number]["hi"]
    assert rows["none", "found"]["success"]["value"] > 0.8
    assert rows["none", "found"]["clean_change"]["value"] == 0
    assert rows["token_local", "found"]["success"]["value"] < 0.4
    assert result["filtered"]["chosen"] >= result["filtered"]["found"] + result["filtered"]["hidden"] > 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "stages").iterdir()}
    monkeypatch.setattr(benchmark, "measured", None)
    monkeypatch.setattr(benchmark, "chosen_rows", None)
    benchmark.main()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "stages").iterdir()} == before
    assert json.loads(file.read_text(encoding="utf-8"))["rows"] == result["rows"]
