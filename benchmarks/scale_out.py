# SPDX-License-Identifier: Apache-2.0
"""Two workers against one on the same machine, one thread each: what the ways to share an audit or a training cost.

``score_efficiency_ranks``, ``score_efficiency_join``, ``score_efficiency_ray``
    tokens a second of two processes over twice those of one, while a table is made: models are loaded, and each process
    has scored something before. Null, with a line in ``notes``, where Ray is not installed or a way was left out.
``tune_efficiency_ddp``
    steps a second of `torchrun --nproc_per_node 2 -m reticent tune` over twice those of one process, without loading.
``same_bytes``
    whether all tables are the same file.

Ways are measured in turn, ``--rounds`` times, and medians are taken. A machine that does other work, or has one core,
says nothing about any of them.

    python benchmarks/scale_out.py --json benchmarks/results/scale_out.json
    python benchmarks/scale_out.py --tiny --rounds 1 --ways join
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.record import Record

WAYS = ("ranks", "join", "ray", "tune")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SHARDS = 20
"""Shards of the measured table, so that two workers end at nearly one time."""
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
MODEL = "smollm2-135m"


def texts(tokens: int, *, seed: int) -> list[Record]:
    """Made-up texts of about ``tokens`` tokens in all, of 40 to 160 words each."""
    rng = random.Random(seed)
    words = ["".join(rng.choice("bcdfgklmnprstaeiou") for _ in range(rng.randint(2, 8))) for _ in range(2000)]
    records: list[Record] = []
    while tokens > 0:
        count = rng.randint(40, 160)
        records.append(Record(id=f"r{len(records)}", text=" ".join(rng.choice(words) for _ in range(count))))
        tokens -= 2 * count
    return records


def efficiency(seconds_of_one: Sequence[float], seconds_of_two: Sequence[float]) -> float:
    """Speed of two workers over twice the speed of one, by medians.

    >>> efficiency([10.0, 11.0, 12.0], [5.5, 6.0, 5.0])
    1.0
    """
    return statistics.median(seconds_of_one) / (2 * statistics.median(seconds_of_two))


def score_by(way: str, model: str, tokens: int, folder: Path) -> dict[str, Any] | None:
    """One measurement, in this process or (``ranks``) in those of a launcher: seconds, tokens, and the table's hash."""
    import torch

    from reticent.score import render
    from reticent.train.leading import led

    torch.set_num_threads(1)
    render._SHARD_TOKENS = max(tokens // SHARDS, 64)
    outcome = led("scale_out", lambda: (way, model, tokens), lambda: _timed(way, model, tokens, folder))
    return outcome if int(os.environ.get("RANK", "0")) == 0 else None


def _timed(way: str, model: str, tokens: int, folder: Path) -> dict[str, Any]:
    from reticent.core.table import read_table
    from reticent.models.load import load
    from reticent.score.make_tables import make_tables
    from reticent.score.requests import Request
    from reticent.score.workers.worker import WORKERS, Meeting, working
    from reticent.train.ranks import ranks

    target, request = load(model, dtype="float32", device="cpu"), Request(name="table")
    meeting = Meeting(folder=folder / "jobs" / "one", count=2, crew=ranks)
    with ExitStack() as stack:
        hand = stack.enter_context(_Hand(meeting.folder)) if way == "join" else None
        opened = stack.enter_context(WORKERS.get({"one": "here"}.get(way, way))(meeting))
        stack.enter_context(working(opened))
        make_tables([request], texts(tokens // 5, seed=1), target=target, cache=folder)
        if hand is not None:
            _wait_for_help(target, hand, meeting.folder, tokens, folder)
        began = time.perf_counter()
        (path,) = make_tables([request], texts(tokens, seed=0), target=target, cache=folder).values()
        seconds = time.perf_counter() - began
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"seconds": seconds, "tokens": int(read_table(path, ["logp"]).lengths.sum()), "digest": digest}


class _Hand:
    """A second hand, for as long as the context lasts."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "reticent.score.workers.spawned", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def __enter__(self) -> _Hand:
        return self

    def check(self) -> None:
        """Raises SystemExit where it ended, so that nobody waits for it."""
        if (code := self._process.poll()) is not None:
            raise SystemExit(f"the second hand ended with {code}")

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _wait_for_help(target: Any, hand: _Hand, folder: Path, tokens: int, cache: Path) -> None:
    """Until the other hand has made a shard by itself, and so has the model in memory."""
    from reticent.core.sealed import drop, seal_of
    from reticent.score.engine import ScoreOptions
    from reticent.score.make_tables import TABLE_SHARDS
    from reticent.score.render import render
    from reticent.score.requests import PLAIN
    from reticent.score.scored_model import ScoredModel
    from reticent.score.workers.job import Job, write_job
    from reticent.score.workers.shard_kinds import OpenShards

    rows = render(texts(tokens // SHARDS, seed=2), PLAIN, tokenizer=target.tokenizer, max_tokens=None)
    side = ScoredModel(loaded=target, off=False, options=ScoreOptions())
    file = cache / "shards" / "first.parquet"
    work = OpenShards(kind=TABLE_SHARDS, sides=(side,), parts=[rows], files=[file])
    write_job(Job.of(work, [0]), folder / "first.parquet")
    while not seal_of(file).exists():
        hand.check()
        time.sleep(0.05)
    (folder / "first.parquet").unlink()
    time.sleep(0.5)
    drop(file)


def tune_by(way: str, model: str, tokens: int, folder: Path) -> float:
    """Seconds of the steps of a training, by one process or two."""
    data, out = folder / "data.jsonl", folder / "run"
    rows = [{"text": record.text} for record in texts(tokens, seed=0)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    start = ["-m", "reticent"] if way == "one" else [*LAUNCH, "-m", "reticent"]
    command = ["tune", str(data), "--model", model, "--out", str(out), "--epochs", "1", "--batch_size", "8"]
    command += ["--max_tokens", "128", "--dtype", "float32", "--device", "cpu", "--canaries", "0"]
    _run([*start, *command], folder)
    log = json.loads((out / "model" / "train_log.json").read_text(encoding="utf-8"))
    return float(next(row["train_runtime"] for row in reversed(log["history"]) if "train_runtime" in row))


def _run(arguments: Sequence[str], folder: Path) -> str:
    env = os.environ | dict.fromkeys(THREADS, "1") | {"RETICENT_CACHE": str(folder / "cache")}
    if "RETICENT_CACHE" in os.environ:
        env["RETICENT_CACHE"] = os.environ["RETICENT_CACHE"]
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[:4])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def measured(way: str, model: str, tokens: int) -> dict[str, Any]:
    """One measurement of scoring in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [__file__, "--part", way, "--model", model, "--tokens", str(tokens), "--folder", folder]
        out = _run([*LAUNCH, *arguments] if way == "ranks" else arguments, Path(folder))
        return dict(json.loads(out.strip().splitlines()[-1]))


def all_measured(model: str, tokens: int, rounds: int, ways: Sequence[str]) -> dict[str, Any]:
    """The benchmark's keys and what they follow from."""
    seconds: dict[str, list[float]] = {}
    digests: set[str] = set()
    scoring = ["one", *(way for way in ways if way != "tune")]
    for _ in range(rounds):
        for way in scoring if len(scoring) > 1 else []:
            row = measured(way, model, tokens)
            seconds.setdefault(way, []).append(row["seconds"])
            digests.add(row["digest"])
            print(f"{way}: {row['tokens'] / row['seconds']:,.0f} tokens a second", file=sys.stderr)
        for way in ("one", "two") if "tune" in ways else ():
            with tempfile.TemporaryDirectory() as folder:
                seconds.setdefault(f"tune {way}", []).append(tune_by(way, model, max(tokens // 4, 8000), Path(folder)))
    return summary(seconds, len(digests) == 1 if digests else None)


def summary(seconds: Mapping[str, Sequence[float]], same_bytes: bool | None) -> dict[str, Any]:
    """The keys, of which those that were not measured are null.

    >>> summary({"one": [2.0], "join": [1.25]}, True)["score_efficiency_join"]
    0.8
    """
    keys: dict[str, Any] = {
        f"score_efficiency_{way}": efficiency(seconds["one"], seconds[way]) if way in seconds else None
        for way in ("ranks", "join", "ray")
    }
    tuned = "tune two" in seconds
    keys["tune_efficiency_ddp"] = efficiency(seconds["tune one"], seconds["tune two"]) if tuned else None
    return keys | {"same_bytes": same_bytes, "seconds": {name: list(row) for name, row in seconds.items()}}


def tiny(folder: Path) -> str:
    """A model that shows that all of it runs, and nothing about speed."""
    from reticent.testing.tiny import save_tiny

    return str(save_tiny(folder / "tiny", seed=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few tokens: does it run?")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        row = score_by(given.part, given.model, given.tokens, given.folder)
        if row is not None:
            print(json.dumps(row))
        return
    ways, notes = list(given.ways), []
    if "ray" in ways and find_spec("ray") is None:
        ways.remove("ray")
        notes.append("score_efficiency_ray is null: Ray is not installed (pip install 'reticent[ray]').")
    with tempfile.TemporaryDirectory() as folder:
        model, tokens = (tiny(Path(folder)), 4000) if given.tiny else (given.model, given.tokens)
        outcome = all_measured(model, tokens, given.rounds, ways)
    about = {"model": "a tiny one" if given.tiny else given.model, "tokens": tokens, "rounds": given.rounds}
    text = json.dumps(outcome | about | {"notes": notes, "environment": environment()}, indent=1) + "\n"
    if given.json:
        write_text(given.json, text, private=False)
    print(text)


if __name__ == "__main__":
    main()
