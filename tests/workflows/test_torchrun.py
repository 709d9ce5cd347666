# SPDX-License-Identifier: Apache-2.0
"""Real launchers: torchrun and a made-up Slurm step start `reticent tune` as any script; kills lose nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file

from reticent.testing.tiny import save_tiny

pytestmark = pytest.mark.slow
"""Each process imports torch."""

TUNE = ("tune", "data.jsonl", "--model", "base", "--epochs", "4", "--batch_size", "4", "--learning_rate", "1e-3")
UNWATCHED = (*TUNE, "--dtype", "float32")
TUNE = (*UNWATCHED, "--watch", "--panel", "10")
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "reticent")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_tiny(tmp_path / "base")
    rows = [{"text": f"mail {i * 7919 % 997} of {user}", "user": f"u{user}"} for user in range(48) for i in range(3)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    for name, value in {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def start(command: Sequence[str], **env: str) -> subprocess.Popen[str]:
    """In a session of its own, so that all of it can be killed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=os.environ | env, start_new_session=True, **pipes)  # type: ignore[call-overload]


def done(command: Sequence[str], **env: str) -> str:
    process = start(command, **env)
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said
    return said


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def same_outcome(one: Path, two: Path) -> None:
    mine, theirs = (load_file(run / "model/model.safetensors") for run in (one, two))
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) <= 1e-6
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (one, two)]
    assert names[0] == names[1]
    about = [json.loads((run / "manifest.json").read_text())["tune"]["processes"] for run in (one, two)]
    assert about[0]["rows"] == about[1]["rows"]


def test_torchrun_does_what_one_process_does() -> None:
    done([sys.executable, "-m", "reticent", *TUNE, "--out", "one"])
    said = done([*LAUNCH, *TUNE, "--out", "two"])
    assert said.count("now: reticent audit two") == 1
    assert said.count("before training") == said.count("epoch 0.00: held-out perplexity") - 1 == 0
    same_outcome(Path("one"), Path("two"))


def test_torchrun_shares_a_model_out() -> None:
    done([sys.executable, "-m", "reticent", *UNWATCHED, "--out", "one"])
    done([*LAUNCH, *UNWATCHED, "--strategy", "fsdp", "--out", "two"])
    same_outcome(Path("one"), Path("two"))
    about = json.loads(Path("two/manifest.json").read_text())["tune"]
    assert about["processes"]["strategy"] == "fsdp"
    assert "strategy" not in about["training"]
    process = start([*LAUNCH, *TUNE, "--strategy", "fsdp", "--out", "three"])
    said = process.communicate(timeout=600)[0]
    assert process.returncode != 0
    assert said.count("the monitor with strategy='fsdp': it looks at the model in one process") == 1
    assert not Path("three").exists()


def test_srun_needs_no_more_than_its_variables() -> None:
    done([sys.executable, "-m", "reticent", *TUNE, "--out", "one"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "MASTER_PORT": port}
    command = [sys.executable, "-m", "reticent", *TUNE, "--out", "two"]
    tasks = [start(command, **step, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)) for rank in range(2)]
    said = [task.communicate(timeout=600)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    same_outcome(Path("one"), Path("two"))


def test_a_verb_that_no_group_can_use_is_refused_by_name() -> None:
    process = start([*LAUNCH, "gate", "results.json"])
    said = process.communicate(timeout=600)[0]
    assert process.returncode != 0
    assert "reticent gate was started as one of 2 processes, and it reads one file of results" in said


@pytest.mark.parametrize(("tune", "kills"), [(TUNE, 10), ((*UNWATCHED, "--strategy", "fsdp"), 5)], ids=["ddp", "fsdp"])
def test_kills_at_random_moments_change_nothing(tune: Sequence[str], kills: int) -> None:
    """One process, or all with the launcher, at moments from the start to the end."""
    done([sys.executable, "-m", "reticent", *(TUNE if tune == TUNE else UNWATCHED), "--out", "one"])
    began = time.monotonic()
    done([*LAUNCH, *tune, "--out", "whole"])
    takes, rng = time.monotonic() - began, random.Random(0)
    for number in range(kills):
        out, moment = f"killed{number}", takes * rng.uniform(0.3, 1.0)
        process = start([*LAUNCH, *tune, "--out", out])
        time.sleep(moment)
        if number % 2:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            ranks = children(process.pid) if process.poll() is None else []
            for child in rng.sample(ranks, k=min(len(ranks), 1)):
                os.kill(child, signal.SIGKILL)
        process.communicate(timeout=60)
        done([*LAUNCH, *tune, "--out", out])
        same_outcome(Path("one"), Path(out))
        leftovers = [path.name for path in Path().iterdir() if path.name.startswith(".")]
        assert not leftovers, leftovers
