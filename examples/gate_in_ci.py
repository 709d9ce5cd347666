# SPDX-License-Identifier: Apache-2.0
"""Fail a build when a new model leaks more than a limit, or more than the model before it.

    python examples/gate_in_ci.py runs/before runs/after --max-auc 0.6; echo $?

Exit code 0: all limits are kept. 1: one is exceeded. 2: one cannot be checked, which does not pass. `reticent gate`
does the same from a shell and writes JUnit for the report of a build. `--demo MODEL` makes the two runs first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import reticent
from reticent.data import help_desk


def make(model: str, out: Path, epochs: int) -> None:
    """Tune on the same data and coins, for so many epochs."""
    run = reticent.tune(
        help_desk(users=24, mails_per_user=4),
        base=model,
        out=out,
        split_config=reticent.SplitConfig(split_unit="record"),
        tune_config=reticent.TuneConfig(epochs=epochs, learning_rate=1e-3, max_tokens=64),
    )
    reticent.audit(run, reticent.AuditConfig(attacks="loss,ref_diff"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Hold a new model against limits and against the model before it.")
    parser.add_argument("before", type=Path, help="run folder of the model before")
    parser.add_argument("after", type=Path, help="run folder of the new model")
    parser.add_argument("--max-auc", type=float, default=0.6)
    parser.add_argument("--demo", metavar="MODEL", help="make both runs first")
    given = parser.parse_args()
    if given.demo:
        make(given.demo, given.before, 1)
        make(given.demo, given.after, 2)

    outcome = reticent.gate(
        reticent.read_results(given.after / "results.json"),
        max_auc=given.max_auc,
        on="lower",
        baseline=reticent.diff(given.before, given.after),
    )
    print("\n".join(outcome.lines))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
