# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from reticent.core.errors import BadInput
from reticent.core.manifest import write_manifest
from reticent.report.listing import runs
from reticent.report.results import write_results


def test_runs_are_listed_newest_first_whatever_their_state(sample: ModuleType, tmp_path: Path) -> None:
    write_results(tmp_path / "old" / "results.json", replace(sample.leaking(), created="2026-01-01T00:00:00+00:00"))
    write_results(tmp_path / "new" / "results.json", replace(sample.confounded(), created="2026-02-01T00:00:00+00:00"))
    write_manifest(tmp_path / "going" / "manifest.json", created="2026-03-01T00:00:00+00:00")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.json").write_text('{"half', encoding="utf-8")
    (tmp_path / "broken" / "manifest.json").write_text("[", encoding="utf-8")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "tune.yaml").write_text("", encoding="utf-8")
    (tmp_path / "no_run").mkdir()
    (tmp_path / "file.txt").write_text("", encoding="utf-8")
    rows = runs(tmp_path)
    assert [(row.id, row.status) for row in rows] == [
        ("going", "unfinished"),
        ("new", "confounded"),
        ("old", "leaks"),
        ("begun", "unfinished"),
        ("broken", "unreadable"),
    ]
    by_id = {row.id: row for row in rows}
    assert by_id["old"].best_auc is not None
    assert by_id["old"].best_auc.value == max(
        f.estimate.value for f in sample.leaking().findings if (f.level, f.metric) == ("record", "auc")
    )
    assert by_id["new"].best_auc is None
    assert "not valid JSON" in by_id["broken"].headline


def test_an_empty_folder_has_no_runs_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    assert runs(tmp_path) == []
    with pytest.raises(BadInput, match="cannot be listed"):
        runs(tmp_path / "missing")
