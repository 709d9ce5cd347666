# SPDX-License-Identifier: Apache-2.0
"""Models are named in a way that says nothing of this machine, and are found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from reticent.core.portable import found, portable, remember, stands_for


def test_a_folder_is_named_from_where_the_file_lies_and_found_again(tmp_path: Path) -> None:
    base, run = tmp_path / "models" / "base", tmp_path / "runs" / "one"
    base.mkdir(parents=True)
    run.mkdir(parents=True)
    named = portable(str(base), run)
    assert named == "../../models/base"
    assert found(named, run) == str(base)
    assert stands_for(named, str(base), run)
    assert not stands_for(named, str(run), run)
    for name in ("owner/name", "smollm2-135m", ""):
        assert portable(name, run) == found(name, run) == name
        assert not name or stands_for(name, name, run)


def test_places_that_share_no_folder_are_known_by_name_and_by_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "cache"))
    base = tmp_path / "base"
    base.mkdir()
    assert portable(str(base), "/elsewhere/run") == "base"
    assert found("base", "/elsewhere/run", "f" * 64) == "base"
    remember(str(base), "f" * 64)
    assert found("base", "/elsewhere/run", "f" * 64) == str(base)
    assert found("../gone/base", "/elsewhere/run", "f" * 64) == str(base)
    assert found("base", "/elsewhere/run", "e" * 64) == "base"
    base.rmdir()
    assert found("base", "/elsewhere/run", "f" * 64) == "base"


def test_a_folder_that_was_moved_still_stands_for_its_base(tmp_path: Path) -> None:
    base, run = tmp_path / "base", tmp_path / "far" / "away" / "run"
    base.mkdir()
    run.mkdir(parents=True)
    assert stands_for("../base", str(base), run)
    assert not stands_for("../other", str(base), run)
