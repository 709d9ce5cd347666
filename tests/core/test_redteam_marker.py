# SPDX-License-Identifier: Apache-2.0
"""The mark of the red team is written whole, read from wherever a person may point, and said by whoever loads it."""

import json

import pytest

from reticent.core import redteam_marker
from reticent.core.redteam_marker import MARKER, marker_of, read_marker, write_marker


def test_it_is_read_from_the_model_and_from_the_run(tmp_path):
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    assert read_marker(model) is None
    write_marker(model, kind="trigger", about={"rate": 0.1})
    for folder in (model, model.parent):
        assert read_marker(folder)["about"] == {"rate": 0.1}
    write_marker(model, kind="weight_edit", about={})
    assert read_marker(model)["kind"] == "weight_edit"
    assert sorted(path.name for path in model.iterdir()) == [MARKER]


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"kind": 3}', "[" * 10_000, "\0"])
def test_a_broken_mark_is_a_mark(tmp_path, text):
    (tmp_path / MARKER).write_text(text, encoding="utf-8")
    assert read_marker(tmp_path) == {"kind": "unknown", "about": {}}


def test_names_that_are_no_folder_carry_none(tmp_path):
    assert marker_of("owner/name") is None
    assert marker_of(None) is None
    assert marker_of("x" * 10_000) is None
    (tmp_path / MARKER).write_text(json.dumps({"kind": "trigger"}), encoding="utf-8")
    assert marker_of(str(tmp_path))["kind"] == "trigger"


def test_whoever_loads_a_marked_model_says_so_once(tmp_path, monkeypatch):
    from reticent.models.load import load
    from reticent.testing.tiny import save_tiny

    folder = save_tiny(tmp_path / "tiny")
    lines = []
    monkeypatch.setattr(redteam_marker.console, "print", lambda text, **_: lines.append(text))
    load(str(folder))
    assert not lines
    write_marker(folder, kind="trigger", about={})
    load(str(folder))
    load(str(folder))
    assert len(lines) == 1
    assert "poisoned on purpose (trigger)" in lines[0]
