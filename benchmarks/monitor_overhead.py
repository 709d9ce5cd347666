# SPDX-License-Identifier: Apache-2.0
"""What watching a fine-tuning costs at the defaults: `reticent tune --monitor true` against the same without it.

The demo's corpus (a made-up help desk) is split and trained on as `reticent tune` does by default, with full
fine-tuning and with LoRA. Both sides, bare and watched, are processes of their own that take turns step by step, so
that a machine that slows down slows both; while one works the other waits.

``overhead`` is (steps of the watched side + its looks) / (steps of the bare side) - 1. Steps are counted from their
beginning to their end: forward, backward, clipping, optimizer. Neither side saves checkpoints or evaluates anything
else, which would make the fraction smaller. ``by_its_own_account`` is what ``monitor.json`` says, of the whole
training with loading of data.

    python benchmarks/monitor_overhead.py --json benchmarks/results/monitor_overhead.json
    python benchmarks/monitor_overhead.py --rows lora --users 60
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROWS = ("full", "lora")
SIDES = ("bare", "watched")
MODEL = "smollm2-135m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the outcome here")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--users", type=int, help="of the corpus; left out, as many as the demo has")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        serve(given.side, given.rows[0], given.users)
        return
    from reticent.core.manifest import environment

    started = time.perf_counter()
    rows = []
    for name in given.rows:
        rows.append(measure(name, given.users))
        print(f"{name}: overhead {rows[-1]['overhead']:.3f} ({rows[-1]['steps']} steps)", file=sys.stderr)
    result = {
        "overhead": max(row["overhead"] for row in rows),
        "rows": rows,
        "model": MODEL,
        "load_average": os.getloadavg()[0],
        "machine": environment(),
    }
    text = json.dumps(result, indent=2) + "\n"
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


# ---- the parent: both sides take turns ---------------------------------------------------------------------------


def measure(row: str, users: int | None) -> dict[str, Any]:
    with processes(row, users) as sides:
        said = {side: answer(process) for side, process in sides.items()}  # loaded, before the first look
        order = list(SIDES)
        while any("steps" not in about for about in said.values()):
            for side in order:
                if "steps" not in said[side]:
                    said[side] = ask(sides[side])
            order.reverse()
    bare, watched = (said[side] for side in SIDES)
    steps = {side: sum(said[side]["steps"]) for side in SIDES}
    looks = watched["looks"]
    return {
        "tuning": row,
        "overhead": (steps["watched"] + sum(looks)) / steps["bare"] - 1,
        "by_its_own_account": watched["overhead"],
        "looks_over_watched_steps": sum(looks) / steps["watched"],
        "steps": len(bare["steps"]),
        "seconds": steps | {"looks": looks},
        **{key: watched[key] for key in ("panel", "panel_tokens", "training_tokens", "threads", "epochs")},
    }


@contextmanager
def processes(row: str, users: int | None) -> Iterator[dict[str, subprocess.Popen[str]]]:
    folder = tempfile.TemporaryDirectory()
    more = ["--users", str(users)] if users else []
    running = {
        side: subprocess.Popen(
            [sys.executable, Path(__file__).resolve(), "--rows", row, "--side", side, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder.name,
        )
        for side in SIDES
    }
    try:
        yield running
    finally:
        for process in running.values():
            process.terminate()
            process.wait()
        folder.cleanup()


def ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Let it go on to its next turn."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a side ended with exit code {process.wait()}")
    found: dict[str, Any] = json.loads(line)
    return found


# ---- a child: one side -------------------------------------------------------------------------------------------


def serve(side: str, row: str, users: int | None) -> None:
    """Train; before each step say so on standard output and wait for a line on standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer

    def turn(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    import torch

    from reticent.data.example import help_desk
    from reticent.data.split_config import SplitConfig, throw_coins
    from reticent.models.load import load_tokenizer
    from reticent.monitor.attach import watching
    from reticent.monitor.config import MonitorConfig
    from reticent.train.batches import encode_all
    from reticent.train.config import TuneConfig
    from reticent.train.trainer import tune
    from reticent.workflows import demo

    records = help_desk(users=users or demo.USERS, mails_per_user=demo.MAILS_PER_USER, seed=0)
    coins = throw_coins(records, SplitConfig())
    trained = [record for record, member in zip(records, coins.member, strict=True) if member]
    config = TuneConfig(method=row)
    callbacks, out = [], Path(side)
    if side == "watched":
        given = {"trained": trained, "training": config, "out": out}
        callbacks = watching(MonitorConfig(monitor=True), MODEL, records, coins, (), **given)
    turns = make_turns(turn)
    turn()
    sys.stdin.readline()
    tune(MODEL, trained, out / "model", config, callbacks=[*callbacks, turns])
    about: dict[str, Any] = {"steps": turns.steps}
    if callbacks:
        watch = callbacks[0].watch
        encoded = encode_all(trained, load_tokenizer(MODEL), config.max_tokens)
        about |= {
            "looks": [moment.seconds for moment in watch.moments],
            "overhead": watch.overhead,
            "panel": len(callbacks[0].panel),
            "panel_tokens": sum(map(len, callbacks[0].passes.rows)),
            "training_tokens": encoded.tokens,
            "threads": torch.get_num_threads(),
            "epochs": watch.moments[-1].epoch,
        }
    turn(**about)


def make_turns(turn: Any) -> Any:
    """The callback that waits for its turn and times the steps."""
    from transformers import TrainerCallback

    class Turns(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.steps: list[float] = []
            self.since = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            turn()
            sys.stdin.readline()
            self.since = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.steps.append(time.perf_counter() - self.since)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_save = False

    return Turns()


if __name__ == "__main__":
    main()
