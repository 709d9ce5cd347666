# SPDX-License-Identifier: Apache-2.0
"""A local Ray cluster of two: the tables of one process, whichever actor dies, and no process left.

Each test is a process of its own: Ray starts several, and a fork of this one would share what it has open.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.score.workers.worker import WORKERS, Meeting

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'reticent[ray]'")

SCRIPT = """
import os, signal, sys, threading, time
from pathlib import Path

import torch

from reticent.core.record import Record
from reticent.models.load import load
from reticent.score import render
from reticent.score.make_tables import make_tables
from reticent.score.requests import Request
from reticent.score.workers.worker import WORKERS, Meeting, working

def children():
    pids = Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split()
    commands = [Path(f"/proc/{{pid}}/cmdline").read_bytes().replace(bytes(1), b" ").decode() for pid in pids]
    return [command for command in commands if "ray" in command]

def kill_actors():
    import subprocess
    until = time.monotonic() + 250
    while time.monotonic() < until:
        lines = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()
        rows = [line.split(None, 2) for line in lines[1:]]
        raylets = {{row[0] for row in rows if row[1] == str(os.getpid()) and "raylet" in row[2]}}
        actors = [int(row[0]) for row in rows if row[1] in raylets and "ray::ScoringActor" in row[2]]
        for actor in actors[:1]:
            os.kill(actor, signal.SIGKILL)
            print("killed", flush=True)
            return
        time.sleep(0.5)

torch.set_num_threads(1)
render._SHARD_TOKENS = 120
records = [Record(id=f"r{{i}}", text=f"record {{i * 7919 % 997}} of the customer " * (1 + i % 4)) for i in range(24)]
target = load("target", dtype="float32", device="cpu")
if {kill}:
    threading.Thread(target=kill_actors, daemon=True).start()
with WORKERS.get("ray")(Meeting(folder=Path("jobs/one"), count=2)) as opened, working(opened):
    (one,) = make_tables([Request(name="t")], records, target=target, cache="by-ray").values()
    print("actors", len(opened.actors))
(two,) = make_tables([Request(name="t")], records, target=target, cache="here").values()
assert one.read_bytes() == two.read_bytes()
assert not [path for path in Path("by-ray").rglob("*") if path.is_file() and path.parent.name != "tables"]
assert not Path("jobs").exists()
until = time.monotonic() + 20
while children() and time.monotonic() < until:
    time.sleep(0.1)
print("left", children())
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from reticent.testing.tiny import save_tiny

    save_tiny(tmp_path / "target", seed=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path.parent))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


def said(kill: bool) -> str:
    command = [sys.executable, "-c", SCRIPT.format(kill=kill)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs_ray
@pytest.mark.slow
def test_two_actors_make_the_tables_of_one_process(place: Path) -> None:
    out = said(kill=False)
    assert "actors 2" in out
    assert "left []" in out
    assert not list(place.parent.glob("rr-*"))


@needs_ray
@pytest.mark.slow
def test_an_actor_that_dies_loses_nothing(place: Path) -> None:
    out = said(kill=True)
    assert "killed" in out
    assert "left []" in out


def test_without_ray_it_says_how_to_get_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(
            BadInput, match=r"--workers ray: needs Ray, which is not installed. pip install 'reticent\[ray\]'"
        ),
        WORKERS.get("ray")(Meeting(folder=place / "jobs")),
    ):
        pass


def test_ray_is_not_imported_unless_asked_for() -> None:
    assert "ray" not in sys.modules
    assert {"here", "join", "ranks", "ray", "spawned"} <= set(WORKERS.names())
    assert "ray" not in sys.modules
