# SPDX-License-Identifier: Apache-2.0
"""What a private training costs before its first step, and a draw of a batch, as the number of records grows.

Records are 20 random token ids each, held as one array; every tenth record has the same user. Each number of records
gets a fresh process. Stages, in the order in which the trainer goes through them:

============  ======================================================================================================
``read``      the one pass over the data set: lengths, users, digests of records, digest of all contents
``refuse``    all rules that look at records: copies, evaluation on training records (1,000 of them)
``plan``      population and plan for 1,000 steps of 1,024 expected, the noise given
``calibrate`` the same, the noise searched for ε = 8
``fit``       that the plan is for these records, as the trainer checks it
``batches``   ten batches of the plan, drawn
``steps``     the same ten, padded into micro-batches of 16,384 tokens
============  ======================================================================================================

``seconds`` are those of the CPU, on one thread; ``peak_mb`` is the kernel's high-water mark of resident memory (VmHWM)
in the stage, less what was resident before (the data set itself among it). Linux only.

    python benchmarks/dp_setup.py --json benchmarks/results/dp_setup.json
    python benchmarks/dp_setup.py --records 10000 100000 --unit user
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TOKENS, PER_USER, BATCH, STEPS, DRAWS, MICRO_TOKENS, EVALUATED = 20, 10, 1024, 1000, 10, 16_384, 1000
KEY = hashlib.sha256(b"a key for measuring").digest()


class Records:
    """A tokenised data set as one array ``[records, TOKENS]``."""

    def __init__(self, count: int) -> None:
        import numpy as np

        self.ids = np.random.default_rng(0).integers(5, 50_000, size=(count, TOKENS), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"input_ids": self.ids[place], "user": f"user {place // PER_USER}"}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[place] for place in range(len(self)))


def measure(count: int, unit: str) -> dict[str, Any]:
    """All stages for ``count`` records, in this process."""
    from torch import nn

    from reticent.privacy.plan import make_plan
    from reticent.privacy.refuse import TrainingSetup, violations
    from reticent.privacy.spec import PrivacySpec
    from reticent.train.private.micro_batches import micro_batches
    from reticent.train.private.population import read_of
    from reticent.train.private.settings import fitting_plan

    data, seconds, peak = Records(count), {}, {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        gc.collect()
        gc.freeze()  # looking through the libraries' objects again and again would hide how stages grow
        before = reset_peak()
        start = time.process_time()
        found = work()
        seconds[name] = round(time.process_time() - start, 4)
        peak[name] = round(peak_mb() - before, 1)
        return found

    def planned(spec: PrivacySpec) -> Any:
        population = read.population(max_tokens=TOKENS)
        units = count if unit == "record" else count // PER_USER
        return make_plan(spec, population, batch_size=min(BATCH, units // 4), steps=STEPS, key=KEY)

    spec = PrivacySpec(noise_multiplier=1.0, unit=unit)
    make_plan(spec, read_of(Records(200)).population(), batch_size=2, steps=2, key=KEY).spent()  # libraries are loaded
    read = timed("read", lambda: read_of(data))
    training = TrainingSetup(
        args=SimpleNamespace(),
        model=nn.Linear(1, 1),
        unit=unit,
        rows=read.rows,
        evaluation_rows=[[1, place] for place in range(EVALUATED)],
        train_dataset=data,
    )
    assert timed("refuse", lambda: violations(training)) == []
    plan = timed("plan", lambda: planned(spec))
    timed("calibrate", lambda: planned(PrivacySpec(epsilon=8, unit=unit)))
    plan = timed("fit", lambda: fitting_plan(plan, None, read, SimpleNamespace(max_steps=-1, max_length=TOKENS)))
    batches = timed("batches", lambda: [plan.sampler.batch(step) for step in range(DRAWS)])
    timed("steps", lambda: [sum(1 for _ in micro(batch, data, micro_batches)) for batch in batches])
    drawn = sum(map(len, batches)) / DRAWS
    return {"records": count, "unit": unit, "units_a_batch": drawn, "seconds": seconds, "peak_mb": peak}


def micro(batch: list[Any], data: Records, cut: Callable[..., Iterator[Any]]) -> Iterator[Any]:
    """A batch in micro-batches."""
    return cut(batch, data, micro_tokens=MICRO_TOKENS, pad=0)


def reset_peak() -> float:
    """Set the high-water mark back to what is resident now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def peak_mb() -> float:
    """VmHWM."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--unit", nargs="+", default=["record", "user"], choices=["record", "user"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help="measure in this process and print JSON (used by itself)")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.records[0], given.unit[0])))
        return
    rows = []
    for unit in given.unit:
        for count in given.records:
            command = [sys.executable, __file__, "--one", "--records", str(count), "--unit", unit]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(count, unit, rows[-1]["seconds"], rows[-1]["peak_mb"], flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
