# SPDX-License-Identifier: Apache-2.0
"""A comparison on a local Ray cluster: the outcome of one process, also where trainings die, and no process left.

The cluster lives in a process of its own: Ray starts several, and a fork of this one would share what it has open.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reticent.comparison import ray_trainings as on_ray
from reticent.comparison.config import CompareConfig, check_jobs
from reticent.core.errors import BadInput
from reticent.core.ray_cluster import RayCluster
from reticent.testing.tiny import save_tiny

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'reticent[ray]'")

SCRIPT = """
import json, os, signal, subprocess, sys, threading, time
from pathlib import Path

import torch

from reticent.comparison.grid import Grid, Method
from reticent.comparison.run import compare
from reticent.comparison.trial import TrialSettings
from reticent.core.record import Record
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.monitor.config import MonitorConfig
from reticent.train.config import TuneConfig

torch.set_num_threads(1)
KILLS = {kills}

def trainings():
    lines = subprocess.run(["ps", "-eo", "pid,sid,args"], capture_output=True, text=True).stdout.splitlines()
    rows = [line.split(None, 2) for line in lines[1:]]
    return [int(row[0]) for row in rows if "ray::_train" in row[2] and int(row[0]) not in before]

def kill_some():
    left = KILLS
    while left:
        if trainings() and list(Path("ray/cells").glob("*/.model.training")):
            os.kill(trainings()[0], signal.SIGKILL)
            left -= 1
            print("killed", flush=True)
            time.sleep(2)
        time.sleep(0.02)

before = set()
before = set(trainings())
mails = [Record(id=f"m{{i}}", text=f"Kennwort {{i * 7919 % 99991}}", user=f"u{{i % 30}}") for i in range(60)]
given = dict(
    grid=Grid(methods=(Method(method="bitfit", learning_rates=(1e-2, 3e-2)),), seeds=(0,)),
    shared=TrialSettings(
        base="base", split=SplitConfig(), canaries=CanaryConfig(),
        training=TuneConfig(epochs=1, max_tokens=16, dtype="float32", device="cpu"),
        monitor=MonitorConfig(monitor=True, monitor_panel=12),
    ),
    title="mails", n_boot=20,
)
if KILLS:
    threading.Thread(target=kill_some, daemon=True).start()
compare(mails, out="ray", jobs="ray:2", **given)
compare(mails, out="here", jobs=1, **given)
until = time.monotonic() + 20
while trainings() and time.monotonic() < until:
    time.sleep(0.1)
print("left", trainings())
"""
TIMES = ("seconds", "created", "finished")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_tiny(tmp_path / "base", arch="gpt2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path.parent))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return tmp_path


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not any(part in key for part in TIMES)}
    return [plain(item) for item in value] if isinstance(value, list) else value


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 2])
def test_a_cluster_does_what_one_process_does(place: Path, kills: int) -> None:
    command = [sys.executable, "-c", SCRIPT.format(kills=kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-3000:]
    mine, theirs = (plain(json.loads((place / name / "comparison.json").read_text())) for name in ("ray", "here"))
    assert mine == theirs
    assert done.stdout.splitlines().count("killed") == kills
    assert "left []" in done.stdout
    assert not list(place.parent.glob("rr-*"))


class MadeUpRay:
    """A cluster in which a task does nothing until it is cancelled, or runs at once where ``runs``."""

    exceptions = SimpleNamespace(RayError=InterruptedError)

    def __init__(self, *nodes: dict[str, float], runs: bool = False) -> None:
        self._nodes, self._runs, self.started = nodes, runs, threading.Event()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": node} for node in self._nodes]

    def cluster_resources(self) -> dict[str, float]:
        return {name: sum(node.get(name, 0) for node in self._nodes) for name in ("CPU", "GPU")}

    def remote(self, **asked: float) -> Callable[..., Any]:
        return lambda function: SimpleNamespace(remote=lambda *given: (function, given, threading.Event()))

    def get(self, pending: Any) -> Any:
        function, given, cancelled = pending
        if self._runs:
            return function(*given)
        self.started.set()
        assert cancelled.wait(60)
        raise InterruptedError

    def cancel(self, pending: Any, *, force: bool) -> None:
        pending[2].set()


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[MadeUpRay], None]:
    def use(ray: MadeUpRay) -> None:
        @contextmanager
        def cluster(*given: Any, **more: Any) -> Iterator[RayCluster]:
            yield RayCluster(ray=ray, started=False)

        monkeypatch.setattr(on_ray, "ray_cluster", cluster)

    return use


@pytest.mark.parametrize(
    ("nodes", "count", "expected"),
    [
        ([{"CPU": 64}, {"CPU": 8, "GPU": 2}], 0, (2, 4)),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 2}], 1, (1, 8)),
        ([{"CPU": 6}, {"CPU": 10}], 0, (4, 4)),
        ([{"CPU": 6}, {"CPU": 10}], 1, (1, 10)),
        ([{"CPU": 2}], 8, (8, 1)),
    ],
)
def test_no_training_waits_for_more_than_a_machine_has(
    nodes: list[dict[str, float]], count: int, expected: tuple[int, int], made_up: Callable[[MadeUpRay], None]
) -> None:
    """Cores of machines without a GPU are of no use to a training that needs one; Ray would wait for them for ever."""
    made_up(MadeUpRay(*nodes))
    with on_ray.ray_trainings(count, "auto") as there:
        assert (there.at_once, there.cores) == expected


def test_an_interrupt_ends_trainings_instead_of_waiting_for_them(
    tmp_path: Path, made_up: Callable[[MadeUpRay], None]
) -> None:
    ray = MadeUpRay({"CPU": 8})
    made_up(ray)
    with (
        on_ray.ray_trainings(2, "cpu") as there,
        pytest.raises(KeyboardInterrupt),
        ThreadPoolExecutor(2) as pool,
        there.ended_on_error(),
    ):
        said = [pool.submit(there.train, tmp_path, ("root", "name", "base")) for _ in range(3)]
        assert ray.started.wait(60)
        raise KeyboardInterrupt
    assert all("a worker of Ray ended" in each.result() for each in said)


def test_a_machine_that_does_not_see_the_model_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: Callable[[MadeUpRay], None]
) -> None:
    """Trained there, it would be an outcome: a training that is refused for good."""
    monkeypatch.chdir(tmp_path)
    for name in ("base", "small", "cell"):
        Path(name).mkdir()
    made_up(MadeUpRay({"CPU": 8}, runs=True))
    monkeypatch.setattr(on_ray, "main", lambda *given: print(*given))
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    with on_ray.ray_trainings(1, "cpu", ("base", "small", "owner/hub", "")) as there:
        assert there.needed == (tmp_path, tmp_path / "base", tmp_path / "small")
        assert there.train(Path("cell"), ("root", "name", "base")) == ""
        assert Path("cell/output.txt").read_text() == f"{tmp_path}/root name base\n"
        monkeypatch.setattr(on_ray, "main", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            there.train(Path("cell"), ("root", "name", "base"))
        assert "ZeroDivisionError" in Path("cell/output.txt").read_text(), "where the message sends who reads it"
        Path("small").rmdir()
        assert there.train(Path("cell"), ("root", "name", "base")).endswith(f"does not see {tmp_path / 'small'}")


def test_without_ray_nothing_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reticent.comparison.grid import Grid, Method
    from reticent.comparison.run import compare
    from reticent.comparison.trial import TrialSettings
    from reticent.core.record import Record
    from reticent.data.canaries.canary_config import CanaryConfig
    from reticent.data.split_config import SplitConfig
    from reticent.monitor.config import MonitorConfig
    from reticent.train.config import TuneConfig

    monkeypatch.setitem(sys.modules, "ray", None)
    shared = TrialSettings(
        base="base", split=SplitConfig(), canaries=CanaryConfig(), training=TuneConfig(), monitor=MonitorConfig()
    )
    mails = [Record(id=f"m{i}", text=f"Kennwort {i * 7919 % 99991}", user=f"u{i}") for i in range(40)]
    grid = Grid(methods=(Method(method="bitfit", learning_rates=(1e-2,)),), seeds=(0,))
    with pytest.raises(BadInput, match=r"--jobs ray: needs Ray, which is not installed"):
        compare(mails, grid=grid, shared=shared, out="out", jobs="ray")
    with pytest.raises(BadInput, match=r"jobs='4': is no number, and neither join nor ray"):
        compare(mails, grid=grid, shared=shared, out="out", jobs="4")
    assert not (place / "out").exists()


@pytest.mark.parametrize("jobs", ["ray:0", "ray:", "rays", "raid:2", "ray:x", ""])
def test_other_words_are_refused(jobs: str) -> None:
    with pytest.raises(BadInput, match=r"is no number, and neither join nor ray"):
        CompareConfig(jobs=jobs)
    with pytest.raises(BadInput, match=r"is no number, and neither join nor ray"):
        check_jobs(jobs)
