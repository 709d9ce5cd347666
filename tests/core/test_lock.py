# SPDX-License-Identifier: Apache-2.0
"""A folder is one process's at a time, and nobody's once that process is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from reticent.core import lock
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


STRUGGLE = """
import os, sys
from pathlib import Path
from reticent.core.errors import BadInput
from reticent.core.lock import locked

folder, had = Path({path!r}), 0
print("ready", flush=True)
sys.stdin.readline()
while had < 100:
    try:
        with locked(folder / "run"):
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails if somebody else is inside
            os.unlink(folder / "inside")
            had += 1
    except BadInput:
        pass
"""


def test_many_that_take_and_leave_it_are_never_two_inside(tmp_path: Path) -> None:
    """The file is taken away each time, so that some lock one that is gone already."""
    command = [sys.executable, "-c", STRUGGLE.format(path=str(tmp_path))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        said = process.communicate(timeout=100)[1]
        assert process.returncode == 0, said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("comes_another", [False, True])
def test_a_file_that_was_taken_away_while_it_was_being_locked_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes_another: bool
) -> None:
    """The one who had it leaves between our opening and our locking it; somebody else may have made a new one."""
    file, tries = tmp_path / ".run.lock", []

    class Late(FileLock):
        def acquire(self, *given: Any, **named: Any) -> Any:
            found = super().acquire(*given, **named)
            tries.append(file.exists())
            if len(tries) == 1:
                file.unlink()
                if comes_another:
                    file.touch()
            return found

    monkeypatch.setattr(lock, "FileLock", Late)
    with locked(tmp_path / "run"):
        assert len(tries) == 2
        monkeypatch.setattr(lock, "FileLock", FileLock)
        with pytest.raises(BadInput, match="another process works in it"), locked(tmp_path / "run"):
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
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "run", within=True):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    assert list(tmp_path.iterdir()) == []
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
    with pytest.raises(BadInput, match="cannot be written"), locked(tmp_path / "file" / "run"):
        pass


def test_a_folder_that_another_takes_away_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process made the folder above, found nothing to keep in it, and took it away while we opened the lock."""
    acquire, taken_away = FileLock.acquire, []

    def late(self: FileLock, *args: Any, **kwargs: Any) -> Any:
        if not taken_away:
            taken_away.append((tmp_path / "cells").rmdir())
            raise FileNotFoundError(2, "No such file or directory")
        return acquire(self, *args, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", late)
    with locked(tmp_path / "cells" / "cell"):
        assert taken_away
        assert (tmp_path / "cells" / ".cell.lock").exists()
    assert not (tmp_path / "cells").exists()
