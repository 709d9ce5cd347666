# SPDX-License-Identifier: Apache-2.0
"""How often the intervals that a report shows hold the truth, by design, size and likeness of users' records.

Scores are drawn with a known AUC and a known ROC curve; intervals are those of ``stats.simultaneous.together``. For
each design: ``auc_holds`` and ``tpr_holds`` are the shares of single 95 % intervals (``Estimate.alone``) that hold the
truth, over all attacks; ``joint`` is the share of draws in which all intervals of the level hold together, 95 % stated.

    python benchmarks/interval_coverage.py --json benchmarks/results/interval_coverage.json --markdown
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from reticent.stats.simultaneous import auc_number, sides, together, tpr_number
from reticent.testing.simulated_audits import STRENGTH, SimulatedAudit, distance, scores

SIZES = ((20, 20), (50, 50), (100, 100), (250, 250), (1000, 1000), (30, 300))
USERS = ((20, 20), (40, 20), (100, 10))
"""Users on one side each, and records of each."""
AUCS = (0.5, 0.6, 0.75, 0.9)


def designs() -> list[dict[str, float]]:
    """What is drawn."""
    alone = [{"inside": m, "outside": n, "users": 0, "likeness": 0.0} for m, n in SIZES]
    shared = [
        {"inside": users * each // 2, "outside": users * each // 2, "users": users, "likeness": likeness}
        for users, each in USERS
        for likeness in (0.3, 0.7)
    ]
    return [one | {"auc": auc} for one in (*alone, *shared) for auc in AUCS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--draws", type=int, default=1000, help="of each design")
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw: other draws than those before")
    parser.add_argument("--designs", default="", help="only these, by number in the list, with commas")
    parser.add_argument("--markdown", action="store_true", help="print a table")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(chosen.processes) as pool:
        for place, design in enumerate(designs()):
            if chosen.designs and str(place) not in chosen.designs.split(","):
                continue
            seeds = range(chosen.first, chosen.first + chosen.draws)
            held = list(pool.map(one, [place] * chosen.draws, seeds, chunksize=16))
            auc, tpr, joint = (np.array(column, dtype=float) for column in zip(*held, strict=True))
            rows.append(
                design
                | {
                    "draws": chosen.draws,
                    "first": chosen.first,
                    "auc_holds": float(auc.mean()),
                    "tpr_holds": None if np.isnan(tpr).all() else float(np.nanmean(tpr)),
                    "joint": float(joint.mean()),
                }
            )
            print(rows[-1], file=sys.stderr)
            if chosen.json:
                chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if chosen.markdown:
        print(table(rows))


def one(place: int, seed: int) -> tuple[float, float, bool]:
    """Share of single AUC and TPR intervals that hold, and whether all joint ones do."""
    os.environ["OMP_NUM_THREADS"] = "1"
    design = designs()[place]
    rng = np.random.default_rng([place, seed])
    inside, outside, users = int(design["inside"]), int(design["outside"]), int(design["users"])
    member = np.arange(inside + outside) < inside
    user = None
    if users:
        owner = np.repeat(np.arange(users), (inside + outside) // users)
        user = np.array([f"u{number:03d}" for number in owner], dtype=object)
    gap = distance(design["auc"])
    drawn = SimulatedAudit(member=member, unit="given", shift=gap * member, user=user, likeness=design["likeness"])
    of = sides(member, user)
    numbers, truth = [], []
    for name, score in scores(drawn, rng).items():
        numbers.append(auc_number(score, of))
        truth.append(float(ndtr(gap * STRENGTH[name] / np.sqrt(2))))
        for fpr in (0.1, 0.01):
            if outside >= 10 / fpr:
                numbers.append(tpr_number(score, of, fpr))
                truth.append(float(ndtr(gap * STRENGTH[name] - ndtri(1 - fpr))))
    shown = together(numbers, confidence=0.95, seed=seed)
    alone = [estimate.alone[0] <= true <= estimate.alone[1] for estimate, true in zip(shown, truth, strict=True)
             if estimate.alone is not None]  # fmt: skip
    is_rate = np.array([number.rate is not None for number in numbers])
    holds = np.array(alone)
    joint = all(estimate.lo <= true <= estimate.hi for estimate, true in zip(shown, truth, strict=True))
    return float(holds[~is_rate].mean()), float(holds[is_rate].mean()) if is_rate.any() else float("nan"), joint


def table(rows: list[dict[str, float]]) -> str:
    """Markdown."""
    lines = ["| design | AUC | single AUC interval | single TPR interval | all together |", "|---|---|---|---|---|"]
    for row in rows:
        who = f"{row['inside']:.0f} / {row['outside']:.0f}"
        who += f", {row['users']:.0f} users, likeness {row['likeness']}" if row["users"] else ""
        tpr = "" if row["tpr_holds"] is None else f"{row['tpr_holds']:.1%}"
        lines.append(f"| {who} | {row['auc']} | {row['auc_holds']:.1%} | {tpr} | {row['joint']:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
