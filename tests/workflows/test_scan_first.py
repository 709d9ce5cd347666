# SPDX-License-Identifier: Apache-2.0
"""`reticent tune --scan`: a base that does not pass is not tuned; the mark of the red team follows into all reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import reticent
from reticent.cli.main import main
from reticent.core.manifest import read_manifest
from reticent.core.record import write_records
from reticent.core.redteam_marker import write_marker
from reticent.data import help_desk
from reticent.testing.malicious_files import make_malicious
from reticent.testing.tiny import save_tiny

TUNE = ["--epochs", "1", "--canaries", "0", "--max_tokens", "32", "--dtype", "float32"]


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mails") / "mails.parquet"
    write_records(path, help_desk(users=20, mails_per_user=2))
    return path


def test_a_base_with_a_program_is_not_tuned(mails: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_tiny(tmp_path / "base")
    bad = make_malicious("standard_library_call", tmp_path / "bad", tmp_path / "ran")
    for file in bad.iterdir():
        shutil.copy(file, base / file.name)
    words = ["tune", str(mails), "--model", str(base), "--out", str(tmp_path / "run"), *TUNE]
    assert main([*words, "--scan", "true"]) == 2
    assert "did not pass the scan" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "ran").exists()


def test_a_clean_base_is_tuned_and_a_sibling_needs_the_scan(
    mails: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, sibling = save_tiny(tmp_path / "base"), save_tiny(tmp_path / "sibling")
    words = ["tune", str(mails), "--model", str(base), "--out", str(tmp_path / "run"), *TUNE]
    assert main([*words, "--scan_sibling", str(sibling)]) == 2
    assert "--scan true" in capsys.readouterr().err
    assert main([*words, "--scan", "true"]) == 0
    assert "Nothing found by these scanners" in capsys.readouterr().err
    assert (tmp_path / "run" / "model").exists()


def test_the_mark_is_found_by_the_scan_and_said_by_tune_and_audit(mails: Path, tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    write_marker(base, kind="privacy_backdoor", about={})
    results = reticent.scan(base, only=["files"])
    assert (results.verdict.word, results.outcome("red_team_mark").word) == ("found", "found")
    run = tmp_path / "run"
    assert main(["tune", str(mails), "--model", str(base), "--out", str(run), *TUNE]) == 0
    assert read_manifest(run / "manifest.json")["tune"]["redteam"] == {"the base": "privacy_backdoor"}
    assert main(["audit", str(run), "--attacks", "loss"]) == 0
    audit = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert any("poisoned on purpose" in sentence for sentence in audit["verdict"]["sentences"])
    assert "poisoned on purpose" in (run / "report.html").read_text(encoding="utf-8")
