# SPDX-License-Identifier: Apache-2.0
"""The examples run from beginning to end, on a tiny model: what they print is looked at, not what it says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from reticent.report.results_file import read_results
from reticent.testing.tiny import save_tiny

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


def run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> Path:
    out = tmp_path / "out"
    model = save_tiny(tmp_path / "tiny")
    monkeypatch.setattr(sys, "argv", [name, "--model", str(model), "--out", str(out), "--epochs", "1", *flags])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return out


def test_planted_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = run("planted_secrets.py", tmp_path, monkeypatch, "--secrets", "30", "--controls", "40", "--users", "20")
    groups = {row.group for row in read_results(out / "results.json").extraction.rows}
    assert {"planted once", "planted 4 times", "planted 16 times", "not planted (control)"} <= groups
    printed = capsys.readouterr()
    for words in ("probabilistic_np", "1,000 samples", "median bits"):
        assert words in printed.out + printed.err


def test_scrub_tune_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = run("scrub_tune_audit.py", tmp_path, monkeypatch, "--users", "30")
    missed = read_results(out / "scrubbed" / "results.json").extraction.rows
    assert any(row.group == "missed by the scrubber" for row in missed)
    assert (out / "as_it_is" / "report.html").exists()
    printed = capsys.readouterr().out
    for words in ("values missed", "as_it_is", "missed by the scrubber", "probabilistic_np"):
        assert words in printed
