# SPDX-License-Identifier: Apache-2.0
"""Two processes over gloo against one: each takes half of every batch, and noise is added once."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainingArguments

from reticent.core.errors import BadInput
from reticent.privacy.plan import make_plan
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import tiny_model
from reticent.train.private import private_trainer as private
from reticent.train.private.private_trainer import PrivateTrainerMixin, open_key
from reticent.train.private.step_log import KEY

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

SECRET = hashlib.sha256(b"a key for tests").digest()
SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from test_processes import train
train({out!r})
"""


class PrivateTrainer(PrivateTrainerMixin, Trainer):  # type: ignore[misc]
    pass


def make(out: Path, processes: int) -> PrivateTrainer:
    """Nine users of three or four records; the second process starts from other weights."""
    rng = np.random.default_rng(0)
    data = [
        {"input_ids": rng.integers(5, 250, size=int(n)).tolist(), "user": f"u{i % 9}"}
        for i, n in enumerate(rng.integers(3, 20, size=30))
    ]
    args = TrainingArguments(
        str(out),
        max_grad_norm=0.0,
        learning_rate=1e-2,
        use_cpu=True,
        ddp_backend="gloo" if processes > 1 else None,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        optim="sgd",
    )
    spec = PrivacySpec(noise_multiplier=0.1, unit="user")
    return PrivateTrainer(
        model=tiny_model(seed=args.process_index),
        args=args,
        train_dataset=data,
        plan=lambda people: make_plan(spec, people, batch_size=4, steps=3, key=open_key(out)),
    )


def train(out: str, processes: int = 2) -> None:
    torch.set_num_threads(1)
    trainer = make(Path(out), processes)
    trainer.train()
    assert trainer.checks
    assert all(check.passed is not False for check in trainer.checks)
    trained = {name: parameter.detach() for name, parameter in trainer.model.named_parameters()}
    save_file(trained, f"{out}/rank{trainer.args.process_index}.safetensors")


def start(out: Path, rank: int, port: int) -> subprocess.Popen[str]:
    """One process, as torchrun starts it."""
    env = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    script = SCRIPT.format(here=str(Path(__file__).parent), out=str(out))
    return subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.PIPE, text=True)


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / KEY).write_bytes(SECRET)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [start(tmp_path / "two", rank, port) for rank in range(2)]
    train(str(tmp_path / "one"), processes=1)
    for process in started:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said
    wanted = load_file(tmp_path / "one" / "rank0.safetensors")
    first, second = (load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in range(2))
    for name, tensor in wanted.items():
        assert float((first[name] - tensor).norm()) <= 1e-5 * float(tensor.norm()), name
        assert first[name].equal(second[name]), name
    assert not list(tmp_path.rglob(KEY))


def test_processes_with_plans_of_their_own_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(found: list[Any], mine: tuple[str, str]) -> None:
        found[:] = [mine, ("another plan", mine[1])]

    one = make(tmp_path, 1)
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    monkeypatch.setattr(private.dist, "all_gather_object", gather)
    with pytest.raises(BadInput, match="noise would be added more than once"):
        one.train()
