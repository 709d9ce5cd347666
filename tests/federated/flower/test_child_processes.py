# SPDX-License-Identifier: Apache-2.0
"""Processes of a deployment end with all that they started, by their ids, and no other process does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reticent.federated.flower.child_processes import ChildProcesses, below, ends_in_order, running, variables_set

GRANDCHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {inner!r}]); time.sleep(60)"
STARTED = """
import os, signal, sys, time
from reticent.federated.flower.launched_programs import _end_with
signal.signal(signal.SIGINT, signal.SIG_IGN)
_end_with(os.getppid(), leave=0.2)
print(os.getpid(), flush=True)
time.sleep(120)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def test_children_and_what_they_started_end_and_a_stranger_does_not(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    children = ChildProcesses(environment=os.environ, log=tmp_path / "log")
    children.start([sys.executable, "-c", GRANDCHILD.format(inner=STUBBORN)])
    end = time.monotonic() + 20
    while len(children.seen) < 2 and time.monotonic() < end:
        children.look()
        time.sleep(0.1)
    ids = list(children.seen)
    assert len(ids) == 2
    assert children.ended() is None
    time.sleep(0.5)  # until the grandchild ignores what it is asked
    children.stop(seconds=0.5)
    left = running()
    assert not any(number in left for number in ids)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_program_that_hears_nothing_ends_after_who_started_it() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STARTED!r}])"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    number = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    end = time.monotonic() + 30
    while number in running() and time.monotonic() < end:
        time.sleep(0.1)
    assert number not in running()
    starter.stdout.close()


def test_who_is_below_whom() -> None:
    processes = {1: (0, "a"), 2: (1, "b"), 3: (2, "c"), 4: (0, "d")}
    assert below(2, processes) == {2: "b", 3: "c"}
    assert below(9, processes) == {}


def test_a_number_that_was_given_to_another_process_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    children = ChildProcesses(environment=os.environ, log=tmp_path / "log")
    children.seen = {stranger.pid: "Thu Jan  1 00:00:00 1970"}
    children.stop(seconds=0.1)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_request_to_end_is_taken_as_an_interrupt() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ends_in_order():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == before


def test_variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETICENT_A", "1")
    monkeypatch.delenv("RETICENT_B", raising=False)
    with variables_set({"RETICENT_A": "2", "RETICENT_B": "3"}):
        assert (os.environ["RETICENT_A"], os.environ["RETICENT_B"]) == ("2", "3")
    assert os.environ["RETICENT_A"] == "1"
    assert "RETICENT_B" not in os.environ
