# SPDX-License-Identifier: Apache-2.0
"""A folder is one process's at a time, and nobody's once that process is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.core.lock import LOCK, locked

HOLD = """
import sys
from pathlib import Path
from reticent.core.lock import locked

with locked(Path({path!r})):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    command = [sys.executable, "-c", HOLD.format(path=str(path))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_another_process_is_told_at_once(tmp_path: Path) -> None:
    with holder(tmp_path / "run"):
        with pytest.raises(BadInput, match="run: another process works in it") as caught, locked(tmp_path / "run"):
            pass
        assert caught.value.exit_code == 2
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "run"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with holder(tmp_path / "run") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / ".run.lock").exists()
        with locked(tmp_path / "run"):
            pass


def test_an_error_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "run"):
        raise RuntimeError
    with locked(tmp_path / "run"):
        pass


def test_a_second_training_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    path, refused = tmp_path / "run", pytest.raises(BadInput, match="another process works in it")
    for within in (False, True):
        with locked(path, within=within), refused, locked(path, within=within):
            pass


def test_the_file_lies_beside_the_folder_or_under_a_name_that_is_not_uploaded(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        assert [path.name for path in tmp_path.iterdir()] == [".run.lock"]
    with locked(tmp_path / "run", within=True):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    assert LOCK.startswith("_")


def test_one_folder_has_one_lock_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with locked(Path("run")), pytest.raises(BadInput), locked(tmp_path / "run"):
        pass
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    with locked(Path()), pytest.raises(BadInput), locked(tmp_path / "run"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with locked(tmp_path / "link"), pytest.raises(BadInput), locked(tmp_path / "run" / ".." / "run"):
        pass


def test_a_place_that_cannot_be_written_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be locked"), locked(tmp_path / "file" / "run"):
        pass
