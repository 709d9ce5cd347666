# SPDX-License-Identifier: Apache-2.0
"""The cost of a round of a federation over the training that it holds, in time and memory, in one process.

============================  ======================================================================================
``round_over_training``       seconds of a round (arrays in, local steps, update out, checks, sum) over seconds of the
                              same optimizer steps, on the same batches, in one loop without a federation
``ray_round_over_training``   the same through Flower's simulation with one worker, once that stands; null where Flower
                              or Ray is not installed
``flower_example_round_over_training``  the same where the base is loaded anew for each client and round, as the
                              published example of tuning with Flower does; without what Flower itself takes, so at
                              least so much
``bytes_per_client_per_round``  trained arrays there and back
``peak_over_single_client``   peak of resident memory while rounds run with so many clients, over that with one
``accountant_seconds``        to find the noise of a promise and to count ε after all rounds
============================  ======================================================================================

Rounds and plain loops take turns, there and back; each ratio is the median of the pairs'. Each number of clients has a
process of its own, and its outcome is a file in ``--work``, so that a second call goes on. Peaks are the kernel's
high-water mark (VmHWM), set back after loading, so this is for Linux. Texts are random tokens, all of the same length.

    python benchmarks/federated_round.py --json FILE
    python benchmarks/federated_round.py --model tiny --tokens 16 --turns 2
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backdoor_runs import stage

from reticent.core.errors import BadInput
from reticent.federated.aggregate.mean import mean
from reticent.federated.client_engine import ClientSide
from reticent.federated.client_mechanism import calibrated
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.client_training import LocalTraining, batches, client_seed
from reticent.federated.exchange.arrays import bytes_of, put_into, taken_from, trained
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.flower import flower_switches
from reticent.federated.inbox import Inbox
from reticent.federated.local_grid import Grid, LocalGrid, Message
from reticent.federated.update import Update
from reticent.models.encode import EncodedRecord
from reticent.models.load import load
from reticent.models.tuning.method import TUNINGS
from reticent.testing.tiny import save_tiny
from reticent.train.batches import collate

CLIENTS = (4, 40)
RECORDS = 8
"""Of each client."""


def rows(clients: int, tokens: int, vocabulary: int) -> list[list[EncodedRecord]]:
    """Random texts for each client."""
    rng = np.random.default_rng(0)
    trained_on = np.ones(tokens, dtype=bool)
    return [
        [
            EncodedRecord(token_id=rng.integers(5, vocabulary, tokens).astype(np.int32), trained=trained_on)
            for _ in range(RECORDS)
        ]
        for _ in range(clients)
    ]


def opened(options: argparse.Namespace) -> Any:
    """The base with the tuning method on it."""
    if options.model == "tiny":
        from reticent.testing.tiny import tiny_model

        base = tiny_model()
    else:
        base = load(options.model, dtype="float32", device="cpu").model
    return TUNINGS.get(options.method)(base)


class ReloadingGrid(LocalGrid):
    """Loads the base anew for each client."""

    def __init__(self, options: argparse.Namespace, like: LocalGrid) -> None:
        super().__init__(like.model, like.names, like.rows, like.how, seed=like.seed)
        self.options = options

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        """See `Grid.ask`."""
        for client in clients:
            self.model = opened(self.options)
            yield from super().ask(round_, [client], arrays)


def run_round(grid: Grid, arrays: Update, clients: int) -> None:
    """All clients, checked and summed."""
    asked = range(clients)
    inbox = Inbox(1, asked, arrays, str)
    mean((update for _, update in inbox.accepted(grid.ask(1, asked, arrays))), denominator=len(asked))


def run_plain(grid: LocalGrid, arrays: Update, clients: int) -> None:
    """The same optimizer steps in one loop."""
    put_into(grid.model, arrays)
    optimizer = torch.optim.AdamW(list(trained(grid.model).values()), lr=grid.how.learning_rate, weight_decay=0.0)
    grid.model.train()
    for name, texts in zip(grid.names, grid.rows, strict=True):
        for batch in batches(len(texts), grid.how, client_seed(grid.seed, 1, name)):
            optimizer.zero_grad(set_to_none=True)
            grid.model(**collate([texts[row] for row in batch], pad=0)).loss.backward()
            optimizer.step()


def seconds(work: Any, *given: Any) -> float:
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started


def peak_mb() -> float:
    """The high-water mark of resident memory since it was set back."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: rounds with so many clients."""
    model = opened(options)
    arrays = taken_from(model)
    how = LocalTraining(steps=options.steps, batch_size=options.batch_size, learning_rate=1e-4)
    clients = rows(options.clients, options.tokens, model.config.vocab_size)
    grid = LocalGrid(model, [f"client {number}" for number in range(len(clients))], clients, how, seed=0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    run_round(grid, arrays, len(clients))
    outcome = {"peak_mb": peak_mb(), "bytes": 2 * bytes_of(arrays)}
    if options.turns:
        outcome["round_over_training"] = ratio(grid, grid, arrays, options.turns)
        outcome["reloading_over_training"] = ratio(ReloadingGrid(options, grid), grid, arrays, options.turns)
        outcome["ray_over_training"] = ray_ratio(options, grid, arrays)
    return outcome


def ratio(through: Grid, plain: LocalGrid, arrays: Update, turns: int) -> float:
    """Seconds of rounds over those of plain loops: the median of pairs that take turns."""
    ratios = []
    for turn in range(turns):
        works = [(run_round, through), (run_plain, plain)]
        took = {
            work: seconds(work, grid, arrays, len(plain.rows))
            for work, grid in (works if turn % 2 == 0 else works[::-1])
        }
        ratios.append(took[run_round] / took[run_plain])
    return statistics.median(ratios)


def ray_ratio(options: argparse.Namespace, plain: LocalGrid, arrays: Update) -> float | None:
    """The same through Flower's simulation, after a first round in which its worker loads the base."""
    try:
        flower_switches.ready(ray=True)
    except BadInput:
        return None
    from reticent.federated.flower.ray_engine import over_ray

    spec = FederationSpec(
        rounds=1, clients_per_round=len(plain.rows), local_steps=options.steps, local_batch_size=options.batch_size,
        local_learning_rate=plain.how.learning_rate, method=options.method, max_tokens=options.tokens,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        base = str(save_tiny(Path(folder) / "base")) if options.model == "tiny" else options.model
        side = ClientSide(base=base, spec=spec, model=plain.model, names=plain.names, rows=plain.rows, how=plain.how)
        with over_ray(side, workers=1) as grid:
            run_round(grid, arrays, len(plain.rows))
            return ratio(grid, plain, arrays, options.turns)


def accountant_seconds() -> float:
    """2,000 clients, 200 a round, 30 rounds, ε = 8."""

    def count() -> None:
        mechanism = calibrated(
            ClientPrivacy(epsilon=8.0), clients=2000, expected=200, rounds=30, key=secrets.token_bytes(32)
        )
        mechanism.epsilon()

    return seconds(count)


def in_process(options: argparse.Namespace, clients: int, turns: int) -> dict[str, Any]:
    """`measure` in a fresh process; what an earlier call left in the work folder is taken."""
    kept = [
        options.model,
        options.method,
        *map(str, (options.tokens, options.steps, options.batch_size, clients, turns)),
    ]
    name = "-".join(kept).replace("/", "_")
    started = time.perf_counter()
    outcome: dict[str, Any] = stage(options.work, name, lambda: _in_process(options, clients, turns))
    print(f"{clients} clients: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return outcome


def _in_process(options: argparse.Namespace, clients: int, turns: int) -> dict[str, Any]:
    given = {**vars(options), "clients": clients, "turns": turns}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        given["json"] = str(out)
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
        subprocess.run([sys.executable, __file__, *words], check=True)
        content: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clients", type=int, help="measure in this process with so many clients")
    parser.add_argument("--work", type=Path, default=Path("runs/federated_round"), help="resumed from here")
    parser.add_argument("--json", help="where results go")
    options = parser.parse_args()
    if options.clients is not None:
        results = measure(options)
    else:
        alone = in_process(options, 1, 0)
        several = {count: in_process(options, count, options.turns if count == CLIENTS[0] else 0) for count in CLIENTS}
        results = {
            "round_over_training": several[CLIENTS[0]]["round_over_training"],
            "ray_round_over_training": several[CLIENTS[0]]["ray_over_training"],
            "flower_example_round_over_training": several[CLIENTS[0]]["reloading_over_training"],
            "bytes_per_client_per_round": alone["bytes"],
            "peak_over_single_client": {
                str(count): outcome["peak_mb"] / alone["peak_mb"] for count, outcome in several.items()
            },
            "accountant_seconds": accountant_seconds(),
            "settings": {
                name: value for name, value in vars(options).items() if name not in ("clients", "json", "work")
            },
        }
        print(json.dumps(results, indent=2))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
