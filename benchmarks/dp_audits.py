# SPDX-License-Identifier: Apache-2.0
"""Promised against audited on whole runs: tiny private trainings with planted secrets, each audited as a person would.

==========  ========================================================================================================
``sound``   `reticent tune --epsilon 1` and `4` on made-up texts, then `reticent audit`: no bound may be above what is
            promised
``silent``  the same at ε = 1 with the noise off, the self-check blindfolded, and enough epochs to learn texts by heart:
            the audit is to call the promise broken
==========  ========================================================================================================

Counted are all numbers that the audit holds against the promise: lower bounds on ε, the AUC, true positives at fixed
false alarms, and what assumes Gaussian noise against μ. An audit lets at most 5 % of sound runs be called broken.

Each run is a few seconds of one thread, silent ones about 20. It ends up as a line of ``DIR/runs.jsonl``; the same
command goes on where it was stopped.

    python benchmarks/dp_audits.py --out runs/audits --json benchmarks/results/dp_audits.json
    python benchmarks/dp_audits.py --out runs/audits --runs 2
"""

from __future__ import annotations

import os

# Before NumPy and PyTorch count the processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reticent.auditing.config import AuditConfig
from reticent.core.record import Record
from reticent.core.results import GuaranteeAudit
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.self_check import SelfCheck
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.private import private_trainer as private
from reticent.workflows.audit import audit
from reticent.workflows.tune import CanaryConfig, SplitConfig, tune

RECORDS, SECRETS, CONTROLS = 260, 200, 20
"""Texts enough for about 130 held out: true positives at 10 % false alarms need 100."""
WORDS = (
    "ant",
    "bee",
    "cat",
    "dog",
    "eel",
    "fox",
    "gnu",
    "hen",
    "ibis",
    "jay",
    "koi",
    "lynx",
    "mole",
    "newt",
    "owl",
    "pug",
)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One kind of run.

    Args:
        name: of the arm.
        epsilon: what is promised.
        silent: whether the noise is off and the self-check does not see it.
        epochs: of the training; those of silent arms must be enough to learn texts by heart.
    """

    name: str
    epsilon: float
    silent: bool = False
    epochs: int = 6
    learning_rate: float = 3e-3


ARMS = (
    Arm(name="sound, ε = 1", epsilon=1.0),
    Arm(name="sound, ε = 4", epsilon=4.0),
    Arm(name="silent, ε = 1", epsilon=1.0, silent=True, epochs=60, learning_rate=1e-2),
    Arm(name="silent, ε = 4", epsilon=4.0, silent=True, epochs=60, learning_rate=1e-2),
)


class Blindfolded:
    """A self-check whose every method does what it does, and raises nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._real = SelfCheck(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        return self._quiet(name, value) if callable(value) else value

    @staticmethod
    def _quiet(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except GuaranteeViolated:
                return () if name == "finished" else None

        return call


@contextmanager
def faulty(silent: bool) -> Iterator[None]:
    """The engine as it is, or without noise and with a self-check that says nothing."""
    right_noise, right_check = private.add_noise, private.SelfCheck
    if silent:
        private.add_noise = lambda x, *, std, **more: right_noise(x, std=0.0, **more)  # type: ignore[assignment]
        private.SelfCheck = Blindfolded  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        private.add_noise, private.SelfCheck = right_noise, right_check  # type: ignore[misc]


def texts(seed: int) -> list[Record]:
    """Sentences that cannot be guessed from each other."""
    rng = random.Random(seed)
    return [
        Record(id=f"r{i}", text=f"{' '.join(rng.choices(WORDS, k=6))} {rng.randrange(10**6)}") for i in range(RECORDS)
    ]


def one_run(arm: Arm, seed: int, base: Path) -> dict[str, Any]:
    """Tune and audit once."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder, faulty(arm.silent):
        made = tune(
            texts(seed),
            base=str(base),
            out=Path(folder) / "run",
            split_config=SplitConfig(known_fraction=0.0, split_seed=seed),
            canary_config=CanaryConfig(canaries=SECRETS, canary_controls=CONTROLS),
            tune_config=TuneConfig(
                epochs=arm.epochs, learning_rate=arm.learning_rate, max_tokens=64, dtype="float32", seed=seed
            ),
            privacy=PrivacySpec(epsilon=arm.epsilon),
        )
        results = audit(made, AuditConfig(dtype="float32", seed=seed))
    assert results.promise is not None, "a private run has a promise"
    return {"arm": arm.name, "seed": seed, "cpu_s": round(time.process_time() - started, 1)} | counted(results.promise)


def counted(promise: GuaranteeAudit) -> dict[str, Any]:
    """What was held against the promise, and what of it was above."""
    held = [row for row in promise.bounds if row.promised is not None]
    rates = [row for row in promise.rates if row.estimate is not None]
    above = [f"ε, {row.units}, {row.assumption}" for row in held if row.broken]
    above += ["AUC"] * promise.auc_broken + [f"TPR at {row.fpr:g}" for row in rates if row.broken]
    return {
        "held": len(held) + len(rates) + (promise.auc is not None),
        "above": above,
        "epsilon": promise.epsilon,
        "largest_epsilon": max((row.estimate.lo for row in held), default=None),
        "auc_lo": None if promise.auc is None else promise.auc.lo,
        "auc_limit": promise.auc_limit,
        "mu": promise.mu,
        "self_check_passed": all(check.passed is not False for check in promise.checks),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """For each arm the runs, the numbers held against promises, those above, and the runs that were flagged."""
    arms = {}
    for arm in ARMS:
        own = [row for row in rows if row["arm"] == arm.name]
        if own:
            arms[arm.name] = {
                "runs": len(own),
                "held": sum(row["held"] for row in own),
                "above": sum(len(row["above"]) for row in own),
                "flagged": sum(bool(row["above"]) for row in own),
                "largest_epsilon": max(
                    (r["largest_epsilon"] for r in own if r["largest_epsilon"] is not None), default=None
                ),
                "largest_auc_lower_end": max((r["auc_lo"] for r in own if r["auc_lo"] is not None), default=None),
                "auc_limit": max(row["auc_limit"] for row in own),
                "cpu_s": round(sum(row["cpu_s"] for row in own), 1),
            }
    return {"arms": arms, "runs": rows}


def read(path: Path) -> list[dict[str, Any]]:
    """The runs that are done; a last line that was cut off by a kill is not one."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs.jsonl, by which it goes on")
    parser.add_argument("--json", type=Path, help="where the summary goes")
    parser.add_argument("--runs", type=int, default=30, help="of each arm")
    parser.add_argument("--arms", nargs="*", default=[arm.name for arm in ARMS], help="names of arms")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    log = asked.out / "runs.jsonl"
    base = asked.out / "base"
    if not base.exists():
        save_tiny(base)
    rows = read(log)
    log.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    done = {(row["arm"], row["seed"]) for row in rows}
    for seed in range(asked.runs):
        for arm in ARMS:
            if arm.name not in asked.arms or (arm.name, seed) in done:
                continue
            rows.append(one_run(arm, seed, base))
            with log.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(rows[-1], ensure_ascii=False)}\n")
            print(json.dumps(rows[-1], ensure_ascii=False), file=sys.stderr, flush=True)
    found = summary(rows)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found["arms"], ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
