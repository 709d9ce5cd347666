# SPDX-License-Identifier: Apache-2.0
"""What may be written where."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reticent.core.errors import BadInput, Unusable
from reticent.core.outputs import JUNIT, REPORT, file_to_write, hash_of, listed, refuse_empty, refuse_input

OURS = '<!doctype html><html><head><meta name="generator" content="reticent report"></head></html>'


@pytest.mark.parametrize("value", ["", " ", "\t\n", "a\0b"])
def test_a_place_is_named(value: str) -> None:
    with pytest.raises(BadInput, match="names no place"):
        refuse_empty("out", value)


def test_an_input_is_no_output_however_it_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, folder = tmp_path / "data.jsonl", tmp_path / "folder"
    data.write_text("x")
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data)
    os.link(data, tmp_path / "hard")
    inputs = {"the data": data, "the model": folder, "nothing": None, "no such": tmp_path / "no"}
    for out in (data, "data.jsonl", "./folder/../data.jsonl", "link", "hard"):
        with pytest.raises(BadInput, match="is the data, which is read"):
            refuse_input(out, inputs)
    for out in (folder / "new", "folder/deep/new/far", folder / "deep"):
        with pytest.raises(BadInput, match="lies within the model"):
            refuse_input(out, inputs)
    with pytest.raises(BadInput, match="is the model"):
        refuse_input(folder, inputs)
    refuse_input(tmp_path / "other", inputs)
    refuse_input(tmp_path / "data.jsonl.out", inputs)


def test_only_what_was_written_here_as_the_same_kind_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    assert file_to_write(place, REPORT) == place
    for content, ours in ((OURS, True), ("", True), ("<html>mine</html>", False), (OURS.replace("report", "x"), False)):
        place.write_text(content)
        if ours:
            assert file_to_write(place, REPORT) == place
        else:
            with pytest.raises(BadInput, match="no report that reticent wrote"):
                file_to_write(place, REPORT)
    place.write_text(OURS)
    with pytest.raises(BadInput, match="no JUnit file"):
        file_to_write(place, JUNIT)


def test_files_without_a_mark_are_known_by_their_hash(tmp_path: Path) -> None:
    place, card = tmp_path / "out.jsonl", tmp_path / "out.card.json"
    place.write_text("records")
    kind = listed(card, "file")
    for said in (None, "{", "[]", json.dumps({"files": {"out.jsonl": "0" * 64}})):
        if said is not None:
            card.write_text(said)
        with pytest.raises(BadInput, match="left as it is"):
            file_to_write(place, kind)
    for when in ("files", "before"):
        card.write_text(json.dumps({when: {"out.jsonl": hash_of(place)}}))
        assert file_to_write(place, kind) == place
    place.write_text("records, corrected by hand")
    with pytest.raises(BadInput):
        file_to_write(place, kind)


@pytest.mark.parametrize("name", ["x" * 5000, "loop", "file/below"])
def test_a_place_that_cannot_be_looked_at_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    if name == "file/below":
        assert file_to_write(tmp_path / name, REPORT)  # refused when it is written
        return
    with pytest.raises(Unusable):
        file_to_write(tmp_path / name, REPORT, inputs={"the data": tmp_path / "file"})
