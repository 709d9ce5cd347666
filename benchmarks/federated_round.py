# SPDX-License-Identifier: Apache-2.0
"""The cost of a round of a federation over the training that it holds, in time and memory, in one process.

============================  ======================================================================================
``round_over_training``       seconds of a round (arrays in, local steps, update out, checks, sum) over seconds of the
                              same optimizer steps, on the same batches, in one loop without a federation
``bytes_per_client_per_round``  trained arrays there and back
``peak_over_single_client``   peak of resident memory while rounds run with so many clients, over that with one
``accountant_seconds``        to find the noise of a promise and to count ε after all rounds
============================  ======================================================================================

Rounds and plain loops take turns, there and back; ``round_over_training`` is the median of the pairs' ratios. Each
number of clients has a process of its own. Peaks are the kernel's high-water mark (VmHWM), set back after loading, so
this is for Linux. Texts are random tokens, all of the same length.

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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reticent.federated.aggregate.mean import mean
from reticent.federated.client_mechanism import calibrated
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.client_training import LocalTraining, batches, client_seed
from reticent.federated.exchange.arrays import bytes_of, put_into, taken_from, trained
from reticent.federated.inbox import Inbox
from reticent.federated.local_grid import LocalGrid
from reticent.federated.update import Update
from reticent.models.encode import EncodedRecord
from reticent.models.load import load
from reticent.models.tuning.method import TUNINGS
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


def run_round(grid: LocalGrid, arrays: Update) -> None:
    """All clients, checked and summed."""
    asked = range(len(grid.rows))
    inbox = Inbox(1, asked, arrays, str)
    mean((update for _, update in inbox.accepted(grid.ask(1, asked, arrays))), denominator=len(asked))


def run_plain(grid: LocalGrid, arrays: Update) -> None:
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
    run_round(grid, arrays)
    peak = peak_mb()
    ratios = []
    for turn in range(options.turns):
        works = (run_round, run_plain) if turn % 2 == 0 else (run_plain, run_round)
        took = {work: seconds(work, grid, arrays) for work in works}
        ratios.append(took[run_round] / took[run_plain])
    ratio = statistics.median(ratios) if ratios else None
    return {"peak_mb": peak, "round_over_training": ratio, "bytes": 2 * bytes_of(arrays)}


def accountant_seconds() -> float:
    """2,000 clients, 200 a round, 30 rounds, ε = 8."""

    def count() -> None:
        mechanism = calibrated(
            ClientPrivacy(epsilon=8.0), clients=2000, expected=200, rounds=30, key=secrets.token_bytes(32)
        )
        mechanism.epsilon()

    return seconds(count)


def in_process(options: argparse.Namespace, clients: int, turns: int) -> dict[str, Any]:
    """`measure` in a fresh process."""
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
    parser.add_argument("--json", help="where results go")
    options = parser.parse_args()
    if options.clients is not None:
        results = measure(options)
    else:
        alone = in_process(options, 1, 0)
        several = {count: in_process(options, count, options.turns if count == CLIENTS[0] else 0) for count in CLIENTS}
        results = {
            "round_over_training": several[CLIENTS[0]]["round_over_training"],
            "bytes_per_client_per_round": alone["bytes"],
            "peak_over_single_client": {
                str(count): outcome["peak_mb"] / alone["peak_mb"] for count, outcome in several.items()
            },
            "accountant_seconds": accountant_seconds(),
            "settings": {name: value for name, value in vars(options).items() if name not in ("clients", "json")},
        }
        print(json.dumps(results, indent=2))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
