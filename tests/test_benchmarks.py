# SPDX-License-Identifier: Apache-2.0
"""Benchmarks are run by hand, months apart: each of them can at least be imported, and says how it is called."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in BENCHMARKS.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_all_that_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module(name)
    assert module.__doc__


def test_import_times_tell_who_brings_torch_and_time_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("import_times")
    commands = benchmark.commands()
    assert commands["reticent tune --help"] == ["-m", "reticent", "tune", "--help"]
    assert "import reticent" in commands
    (tmp_path / "torch.py").write_text("", encoding="utf-8")  # a stand-in: the real one takes seconds
    env = benchmark.bytecode(str(tmp_path / "bytecode")) | {"PYTHONPATH": str(tmp_path)}
    row = benchmark.measured(["-c", "import torch; sum(range(3_000_000))"], 1, env)
    assert row["torch"]
    assert 0 < row["cpu_seconds"] <= row["wall_seconds"] + 0.2
    assert not benchmark.brings_torch(["-c", "import json"], env)
    with pytest.raises(subprocess.CalledProcessError):
        benchmark.measured(["-c", "raise SystemExit(2)"], 1, env)


def test_growth_goes_on_with_what_its_file_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    growth = importlib.import_module("growth")
    asked: list[tuple[str, int]] = []

    def run_apart(name: str, size: int) -> dict[str, object]:
        asked.append((name, size))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"stage": name, "records": size, "tokens": size, "seconds": size / 100, "peak_mb": 50.0}

    file = tmp_path / "growth.json"
    call = ["growth.py", "--json", str(file), "--stages", "near", "exact", "--records", "100", "1000"]
    monkeypatch.setattr(growth, "run_apart", run_apart)
    monkeypatch.setattr("sys.argv", call)
    with pytest.raises(KeyboardInterrupt):
        growth.main()
    growth.main()
    assert asked == [("near", 100), ("near", 1000), ("exact", 100), ("exact", 100), ("exact", 1000)]
    rows = json.loads(file.read_text(encoding="utf-8"))["stages"]
    assert [(row["stage"], row["records"], row["exponent_time"], row["exponent_memory"]) for row in rows] == [
        ("exact", 100, None, None),
        ("exact", 1000, 1.0, 0.0),
        ("near", 100, None, None),
        ("near", 1000, 1.0, 0.0),
    ]
    monkeypatch.setattr("sys.argv", [*call, "--again"])
    growth.main()
    assert len(asked) == 9


def test_there_are_benchmarks() -> None:
    assert len(NAMES) > 20


def test_scale_out_says_what_two_are_worth_and_what_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("scale_out")
    assert benchmark.efficiency([10.0, 11.0, 30.0], [5.5, 5.0, 9.0]) == 1.0
    row = benchmark.summary({"one": [3.0], "ranks": [2.0], "tune one": [4.0], "tune two": [2.5]}, False)
    assert (row["score_efficiency_ranks"], row["tune_efficiency_ddp"], row["same_bytes"]) == (0.75, 0.8, False)
    assert row["score_efficiency_ray"] is row["score_efficiency_join"] is None
    texts = benchmark.texts(500, seed=0)
    assert texts == benchmark.texts(500, seed=0) != benchmark.texts(500, seed=1)


@pytest.mark.slow
def test_scale_out_runs_on_a_tiny_model(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "scale_out.py"), "--tiny", "--rounds", "1", "--ways", "join", "ranks"]
    subprocess.run([*command, "--json", str(tmp_path / "row.json")], check=True, capture_output=True)
    row = json.loads((tmp_path / "row.json").read_text())
    assert row["same_bytes"]
    assert min(row["score_efficiency_join"], row["score_efficiency_ranks"]) > 0
    assert row["score_efficiency_ray"] is None
