# SPDX-License-Identifier: Apache-2.0
"""How long the judging of one level takes, and how that grows with its units.

``seconds``: 14 attacks with their combination and discrepancy, 10,000 records of 500 users, 2,000 labellings and 2,000
multipliers: p-values by re-thrown coins, joint and single intervals of AUC and of the true positive rates at 10 % and
1 % false alarms, and what could have been seen. ``exponent``: slope of log seconds over log units between the sizes.

    python benchmarks/judge_speed.py --json benchmarks/results/judge_speed.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np

from reticent.attacks.membership.combination import combination
from reticent.auditing.membership.evaluate import judge_alone
from reticent.auditing.membership.level import COMBINATION, AttackScores, Level
from reticent.auditing.membership.rethrow import Rethrow
from reticent.core.finding import ThreatModel
from reticent.core.manifest import environment
from reticent.stats.relabel import free, whole, within

ATTACKS = 14
SIZES = (1_250, 2_500, 5_000, 10_000, 20_000)
OF = 10_000
THREAT = ThreatModel(access="logprob")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    seconds: dict[str, dict[int, float]] = {}
    for design in ("free", "within users", "whole users"):
        seconds[design] = {}
        for size in SIZES:
            level = level_of(size, design)
            seconds[design][size] = min(timed(level) for _ in range(chosen.rounds))
            print(f"{design}, {size} units: {seconds[design][size]:.2f} s", file=sys.stderr)
    worst = max(seconds, key=lambda design: seconds[design][OF])
    result = {
        "seconds": seconds[worst][OF],
        "exponent": math.log(seconds[worst][SIZES[-1]] / seconds[worst][SIZES[0]]) / math.log(SIZES[-1] / SIZES[0]),
        "design": worst,
        "by_design": {name: {str(size): value for size, value in row.items()} for name, row in seconds.items()},
        "attacks": ATTACKS,
        "machine": environment(),
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("seconds", "exponent", "design")}))


def level_of(size: int, design: str) -> Level:
    """Records of 500 users, half of them in."""
    rng = np.random.default_rng(0)
    owner = rng.integers(500, size=size)
    user = np.array([f"u{one}" for one in owner], dtype=object)
    member = owner < 250 if design == "whole users" else rng.random(size) < 0.5
    scores = rng.normal(size=(size, ATTACKS)) + rng.normal(size=(size, 1)) + 0.05 * member[:, None]
    how = {"free": free(size), "within users": within(user), "whole users": whole(user, member)}[design]
    attacks = [AttackScores(name=f"attack{one}", score=scores[:, one], threat=THREAT) for one in range(ATTACKS)]
    learned = combination(scores, user, how.stratum)
    together = AttackScores(name=COMBINATION, score=learned.scores(member), threat=THREAT, second=learned.in_second)
    return Level(
        name="record",
        member=member,
        cluster=user,
        attacks=[*attacks, together],
        what="",
        rethrow=Rethrow(design=how, exact=True, said=""),
        learned=learned,
        together=scores,
    )


def timed(level: Level) -> float:
    started = time.perf_counter()
    judge_alone(level)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
