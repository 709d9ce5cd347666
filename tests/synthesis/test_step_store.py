# SPDX-License-Identifier: Apache-2.0
"""Steps are spent before their texts lie anywhere, once each, and a killed process goes on with them."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.privacy.check import GuaranteeViolated
from reticent.synthesis.step_store import SPENT, StepStore, forget_texts, has_spent

KEY = hashlib.sha256(b"steps").digest()
ABOUT = {"mechanism": "made up", "rho": 0.1}


def store(folder: Path, **changes: object) -> StepStore:
    return StepStore(folder, ABOUT | changes, key=KEY, steps=3)


def test_a_step_is_made_once_and_read_again(tmp_path: Path) -> None:
    first = store(tmp_path)
    assert not has_spent(tmp_path)
    assert first.step(0, lambda: ["a", "b\nc"]) == ["a", "b\nc"]
    assert has_spent(tmp_path)
    again = store(tmp_path)
    assert again.step(0, lambda: pytest.fail("made again")) == ["a", "b\nc"]
    assert len((tmp_path / SPENT).read_text().splitlines()) == 2
    for path in tmp_path.iterdir():
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077


def test_the_line_is_on_the_disk_before_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[int] = []

    def write_text(path: Path, text: str) -> None:
        lines.append(len((tmp_path / SPENT).read_text().splitlines()))
        raise KeyboardInterrupt

    first = store(tmp_path)
    monkeypatch.setattr("reticent.synthesis.step_store.write_text", write_text)
    with pytest.raises(KeyboardInterrupt):
        first.step(0, lambda: ["a"])
    assert lines == [2]
    monkeypatch.undo()
    assert store(tmp_path).step(0, lambda: ["a"]) == ["a"]
    assert len((tmp_path / SPENT).read_text().splitlines()) == 2


def test_other_texts_by_the_same_coins_are_refused(tmp_path: Path) -> None:
    store(tmp_path).step(0, lambda: ["a"])
    forget_texts(tmp_path)
    with pytest.raises(BadInput, match="now gave other texts"):
        store(tmp_path).step(0, lambda: ["b"])
    assert not list(tmp_path.glob("step-*"))


def test_changed_texts_are_made_again(tmp_path: Path) -> None:
    store(tmp_path).step(0, lambda: ["a"])
    (text,) = tmp_path.glob("step-*")
    text.write_text(json.dumps("forged") + "\n")
    assert store(tmp_path).step(0, lambda: ["a"]) == ["a"]
    text.write_text("{broken")
    assert store(tmp_path).step(0, lambda: ["a"]) == ["a"]


@pytest.mark.parametrize("number", [1, 3, -1])
def test_no_step_is_left_out_or_beyond_the_last(tmp_path: Path, number: int) -> None:
    with pytest.raises(GuaranteeViolated, match="each step is spent once"):
        store(tmp_path).step(number, lambda: ["a"])


def test_a_line_without_its_end_is_dropped(tmp_path: Path) -> None:
    store(tmp_path).step(0, lambda: ["a"])
    with (tmp_path / SPENT).open("ab") as file:
        file.write(b'{"step": 1, "dig')
    again = store(tmp_path)
    assert len(again.spent) == 1
    again.step(1, lambda: ["b"])
    assert len(store(tmp_path).spent) == 2


def test_a_header_that_was_not_finished_is_written_again(tmp_path: Path) -> None:
    (tmp_path / SPENT).write_bytes(b'{"form')
    assert store(tmp_path).spent == []


@pytest.mark.parametrize("content", [b"nonsense\n", b"{}\n", b"[1]\n"])
def test_foreign_ledgers_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SPENT).write_bytes(content)
    with pytest.raises(BadInput):
        store(tmp_path)


def test_another_mechanism_or_key_is_refused(tmp_path: Path) -> None:
    store(tmp_path).step(0, lambda: ["a"])
    with pytest.raises(BadInput, match="another mechanism"):
        store(tmp_path, rho=0.2)
    with pytest.raises(BadInput, match="another key"):
        StepStore(tmp_path, ABOUT, key=bytes(32), steps=3)
    assert KEY.hex() not in (tmp_path / SPENT).read_text()


def test_steps_twice_are_refused(tmp_path: Path) -> None:
    store(tmp_path).step(0, lambda: ["a"])
    lines = (tmp_path / SPENT).read_text().splitlines(keepends=True)
    (tmp_path / SPENT).write_text("".join([*lines, lines[1]]))
    with pytest.raises(BadInput, match="twice or not at all"):
        store(tmp_path)
