# SPDX-License-Identifier: Apache-2.0
"""A deployment whose server or clients are ended by force at random points: the same weights, no round forgotten, and
no process, port or key left.

Ten kills of the server and ten of clients, in five deployments each. They take many minutes: ``pytest --slow``, where
Flower 1.42 is installed; one seed is ``-k "server and 3"``.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

from reticent.core.run_folder import RunFolder
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.local_grid import Grid, Message
from reticent.federated.round_ledger import FILE as LEDGER
from reticent.federated.server_state import FILE as STATE
from reticent.federated.update import Update
from reticent.report.federation_file import read_federation
from reticent.train.checkpoints import folder_for
from reticent.train.private.step_log import KEY
from tests.federated.flower.test_flower_engines import (
    FLAGS,
    SPEC,
    Deployment,
    assert_same_weights,
    base,
    federated,
    pytestmark,
)

__all__ = ["base", "pytestmark"]  # a fixture; slow, and with Flower alone

ROUNDS, KILLS, SEEDS = 4, 2, range(5)
LONG = replace(SPEC, rounds=ROUNDS)
LONG_FLAGS = [f"--rounds={ROUNDS}" if flag.startswith("--rounds=") else flag for flag in FLAGS]
PROMISE = ClientPrivacy(noise_multiplier=1.0, delta=0.1)
PROMISE_FLAGS = ["--noise_multiplier=1.0", "--delta=0.1"]


def points(seed: int) -> list[tuple[int, float]]:
    """When to kill: after so many rounds, and how many seconds later."""
    drawn = random.Random(seed)
    return [(after, drawn.uniform(0, 4)) for after in sorted(drawn.sample(range(ROUNDS), KILLS))]


def rounds_in_state(checkpoints: Path) -> int:
    """Rounds that the server would go on after."""
    try:
        with safe_open(str(checkpoints / STATE), framework="pt") as file:
            return int(json.loads(file.metadata()["state"])["round"])
    except (FileNotFoundError, SafetensorError):
        return 0


def rounds_on_ledger(checkpoints: Path) -> int:
    path = checkpoints / LEDGER
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


def wait_for(point: tuple[int, float], rounds: Callable[[], int], server: subprocess.Popen[bytes], log: Path) -> None:
    while rounds() < point[0]:
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    time.sleep(point[1])


def left_of(deployment: Deployment, killed: int) -> list[str]:
    """Whatever stayed, but for the private folders of processes that nobody could take away."""
    folders = sorted(deployment.temporary.iterdir())
    texts = [path for path in deployment.temporary.rglob("*") if path.is_file()]
    keys = [str(path) for path in texts if b"PRIVATE KEY" in path.read_bytes()]
    assert len(folders) <= killed
    for folder in folders:
        assert folder.name.startswith(("reticent-serve-", "reticent-join-"))
        shutil.rmtree(folder)
    deadline = time.monotonic() + 60  # what a killed process had started ends by itself
    while deployment.left() and time.monotonic() < deadline:
        time.sleep(1)
    return deployment.left() + keys


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_killed_at_random_points_ends_the_same_and_its_ledger_is_not_short(
    base: Path, tmp_path: Path, seed: int
) -> None:
    deployment = Deployment(base, tmp_path, [*LONG_FLAGS, *PROMISE_FLAGS])
    out, checkpoints = tmp_path / "out", RunFolder(root=tmp_path / "out").checkpoints
    twin = folder_for(tmp_path / "twin")
    with deployment.joined():
        for point in points(seed):
            with deployment.serving(out) as (server,):
                wait_for(point, lambda: rounds_on_ledger(checkpoints), server, deployment.log)
                assert server.poll() is None, "it had ended before it was to be killed"
                server.kill()
                server.wait()
            print(
                f"killed at {point}: {rounds_on_ledger(checkpoints)} on the ledger, {rounds_in_state(checkpoints)} done"
            )
            assert rounds_on_ledger(checkpoints) >= rounds_in_state(checkpoints)
            if (checkpoints / KEY).exists():
                twin.mkdir(exist_ok=True)
                shutil.copy(checkpoints / KEY, twin / KEY)
        again = deployment.served(out)
    assert again.returncode == 0, again.stderr + deployment.log.read_text()
    federated(base, tmp_path / "twin", deployment.records, spec=LONG, privacy=PROMISE)
    assert_same_weights(tmp_path / "twin", out / "model")
    results = read_federation(out / "federation.json")
    assert [row.number for row in results.rounds] == list(range(1, ROUNDS + 1))
    assert all(check.passed is not False for check in results.checks)
    assert not left_of(deployment, KILLS)


class WithoutSome:
    """Clients of one process, of whom some do not answer in some rounds."""

    def __init__(self, grid: Grid, missing: set[tuple[int, int]]) -> None:
        self.grid, self.missing = grid, missing

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        there = [client for client in clients if (client, round_) not in self.missing]
        return self.grid.ask(round_, there, arrays)


@pytest.mark.parametrize("seed", SEEDS)
def test_clients_killed_at_random_points_miss_those_rounds_alone(base: Path, tmp_path: Path, seed: int) -> None:
    """A client that is ended by force is started again at once; the weights are those of the same federation in one
    process without the answers that it missed."""
    deployment = Deployment(base, tmp_path, LONG_FLAGS)
    out, checkpoints = tmp_path / "out", RunFolder(root=tmp_path / "out").checkpoints
    chosen = random.Random(seed)
    with deployment.joined() as clients, deployment.serving(out, "--timeout", "60") as (server,):
        for point in points(seed):
            wait_for(point, lambda: rounds_in_state(checkpoints), server, deployment.log)
            number = chosen.randrange(len(clients))
            clients[number].kill()
            clients[number].wait()
            print(f"killed client {number} at {point}, {rounds_in_state(checkpoints)} rounds done")
            with deployment.log.open("ab") as log:
                command = deployment.client(deployment.names[number])
                clients[number] = subprocess.Popen(command, stdout=log, stderr=log, env=deployment.environment)
        server.wait(timeout=1500)
    assert server.returncode == 0, deployment.log.read_text()
    rows = read_federation(out / "federation.json").rounds
    assert [row.number for row in rows] == list(range(1, ROUNDS + 1))
    missing = {(row.drawn.index(drop.client), row.number) for row in rows for drop in row.dropped}
    print(f"missing {sorted(missing)}")
    assert len(missing) <= 2 * KILLS  # a node that is back may not be known at once
    federated(base, tmp_path / "twin", deployment.records, spec=LONG, wrap=lambda grid: WithoutSome(grid, missing))
    assert_same_weights(tmp_path / "twin", out / "model")
    assert not left_of(deployment, KILLS)
