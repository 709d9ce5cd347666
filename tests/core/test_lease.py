# SPDX-License-Identifier: Apache-2.0
"""A lease is one holder's at a time, lapses when that is gone, and depends on no clock but the observer's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reticent.core import lease
from reticent.core.errors import BadInput
from reticent.core.lease import LAPSE, Lease, Leases, about

HOLD = """
import sys
from pathlib import Path
from reticent.core.lease import Leases

with Leases().take(Path({path!r}), "another process"):
    print("held", flush=True)
    sys.stdin.read()
"""


class Clock:
    """Seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD.format(path=str(path))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def taken(leases: Leases, path: Path, words: str = "") -> Lease:
    held = leases.take(path, words)
    assert held is not None
    return held


def as_from_elsewhere(path: Path, **changes: Any) -> None:
    """The file as a holder on another machine would have left it: no lock of its is seen here."""
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kernel": "another machine"} | changes))


def left_elsewhere(path: Path) -> None:
    """A lease that was taken on another machine."""
    path.write_text(json.dumps({"holder": "there", "count": "000000000001", "kernel": "there", "locked": True}))


def test_one_holder_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lease"
    with taken(Leases(), path, "first") as held:
        assert held.held
        assert about(path) == "first"
        assert Leases().take(path) is None
        taken(Leases(), tmp_path / "b.lease").release()
    assert not path.exists()
    assert about(path) == ""
    taken(Leases(), path).release()
    assert not list((tmp_path / "new").iterdir())


def test_who_waits_for_a_turn_gets_it_when_the_holder_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, looks = tmp_path / "a.lease", []
    held = taken(Leases(), path)

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            held.release()

    monkeypatch.setattr(lease.time, "sleep", look)
    with Leases().turn(path) as mine:
        assert mine.held
    assert len(looks) == 3
    assert not path.exists()


def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.lease"
    with holder(path) as process:
        leases = Leases()
        assert leases.take(path) is None
        assert about(path) == "another process"
        process.send_signal(signal.SIGKILL)
        process.wait()
        with taken(leases, path, "mine") as held:
            assert held.held
            assert about(path) == "mine"
            assert Leases().take(path) is None
    assert not list(tmp_path.iterdir())


def test_a_process_that_stands_still_on_this_machine_keeps_it(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "a.lease"
    with holder(path) as process:
        process.send_signal(signal.SIGSTOP)
        leases = Leases(clock)
        assert leases.take(path) is None
        clock.now += 100 * LAPSE
        assert leases.take(path) is None
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("jump", [-(10.0**9), 10.0**9])
def test_no_clock_of_another_machine_counts(tmp_path: Path, jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder elsewhere lapses by what this process saw for a minute, whatever the time of day or the file's is."""
    clock, path = Clock(), tmp_path / "a.lease"
    left_elsewhere(path)
    os.utime(path, (time.time() + jump, time.time() + jump))
    monkeypatch.setattr(time, "time", lambda: jump)
    leases = Leases(clock)
    assert leases.take(path) is None
    clock.now += LAPSE - 1
    assert leases.take(path) is None
    as_from_elsewhere(path, count="000000000002")
    clock.now += LAPSE - 1
    assert leases.take(path) is None, "it counted"
    clock.now += LAPSE + 1
    with taken(leases, path) as held:
        assert held.held
    assert not list(tmp_path.iterdir())


def test_where_no_locks_are_a_holder_lives_by_its_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "fcntl", None)
    monkeypatch.setattr(lease, "BEAT", 0.01)
    clock, path = Clock(), tmp_path / "a.lease"
    with taken(Leases(), path) as held:
        leases = Leases(clock)
        for _ in range(3):
            before = path.read_bytes()
            while path.read_bytes() == before:
                time.sleep(0.005)
            clock.now += LAPSE + 1
            assert leases.take(path) is None
        assert held.held


def test_a_holder_learns_that_another_took_over_and_leaves_that_one_alone(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "a.lease"
    late = taken(Leases(), path, "late")
    as_from_elsewhere(path)
    leases = Leases(clock)
    assert leases.take(path) is None
    clock.now += LAPSE + 1
    with taken(leases, path, "new") as held:
        assert not late.held
        late.release()
        assert held.held
        assert about(path) == "new"
    assert not list(tmp_path.iterdir())


def test_one_that_was_taken_over_just_now_is_put_back(tmp_path: Path) -> None:
    """Two see it lapse; the slower one buries what the faster one made."""
    path = tmp_path / "a.lease"
    left_elsewhere(path)
    dead = path.read_bytes()
    path.unlink()
    with taken(Leases(), path, "faster") as held:
        lease._bury(path, dead)
        assert held.held
        assert [file.name for file in tmp_path.iterdir()] == ["a.lease"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"null", b'{"locked": true}', b'{"kernel": 3}'])
def test_a_file_that_says_nothing_lapses_too(tmp_path: Path, content: bytes) -> None:
    clock, path = Clock(), tmp_path / "a.lease"
    path.write_bytes(content)
    leases = Leases(clock)
    assert leases.take(path) is None
    clock.now += LAPSE + 1
    taken(leases, path).release()
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        Leases().take(tmp_path / "file" / "a.lease")


def test_a_late_count_is_written_into_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next file that is opened gets the number of the one that was closed."""
    begun, go = threading.Event(), threading.Event()
    count = Lease._count

    def slow(held: Lease, number: int) -> None:
        if number:
            begun.set()
            go.wait(10)
        count(held, number)

    monkeypatch.setattr(Lease, "_count", slow)
    monkeypatch.setattr(lease, "BEAT", 0.001)
    held = taken(Leases(), tmp_path / "late.lease")
    assert begun.wait(10)
    beat = next(thread for thread in threading.enumerate() if thread.name == "lease late.lease")
    release = threading.Thread(target=held.release)
    release.start()
    release.join(0.05)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    go.set()
    release.join()
    beat.join(10)
    assert (tmp_path / "other").read_bytes() == b""
    os.close(other)


def test_a_second_release_closes_no_other_file(tmp_path: Path) -> None:
    held = taken(Leases(), tmp_path / "a.lease")
    held.release()
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    held.release()
    assert os.write(other, b"x") == 1
    os.close(other)


def test_two_that_begin_long_after_each_other_are_not_one_that_stood_still(tmp_path: Path) -> None:
    """A lease that is just being taken says nothing yet; what was seen between two such looks counts."""
    clock, path = Clock(), tmp_path / "a.lease"
    leases = Leases(clock)
    path.touch()
    assert leases.take(path) is None
    path.unlink()
    with taken(Leases(), path):
        clock.now += LAPSE + 1
        assert leases.take(path) is None
    path.touch()
    assert leases.take(path) is None
    assert path.exists()


STRUGGLE = """
import os, sys
from pathlib import Path
from reticent.core.lease import Leases

folder, leases, had = Path({path!r}), Leases(), 0
print("ready", flush=True)
sys.stdin.readline()
while had < 20:
    held = leases.take(folder / "a.lease")
    if held is not None:
        os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails if somebody else is inside
        os.unlink(folder / "inside")
        held.release()
        had += 1
"""


def test_many_that_take_and_leave_it_are_never_two_inside(tmp_path: Path) -> None:
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
