# SPDX-License-Identifier: Apache-2.0
"""How often the statistics of unlearning claim what is false, and what is true, by simulation.

``verdicts``: of `reticent.stats.equivalence`, at AUCs of 0.5, the margin on both sides, half the margin, and 0.9.
Scores are Gaussian; rows of a user share ``alike`` of their variance, attacks 0.8 of what is left. The margin is what
the sizes can show (`reticent.stats.equivalence_margin`), at least 0.1 and at most 0.2. With ``looks`` above 1: the
share of runs in which *some* look says so. ``intervals``: how often a 95 % interval misses.

    python benchmarks/unlearn_statistics.py --json benchmarks/results/unlearn_statistics.json
    python benchmarks/unlearn_statistics.py --runs 100
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm

from reticent.stats.among_retrained import among_retrained
from reticent.stats.equivalence import equivalence
from reticent.stats.equivalence_margin import EquivalenceDesign, margin_shown
from reticent.stats.intervals import clopper_pearson
from reticent.stats.leak_at_k import mean_leak_at_k
from reticent.stats.two_sample import distribution_gap
from reticent.stats.user_bootstrap import mean_of_rows

COMMON = 0.8


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Units on each side, rows of each, how alike they are, and how many attacks and looks there are."""

    forget: int
    unseen: int
    rows: int = 1
    alike: float = 0.0
    attacks: int = 1
    looks: int = 1

    @property
    def design(self) -> EquivalenceDesign:
        return EquivalenceDesign(
            forget=self.forget * self.rows,
            unseen=self.unseen * self.rows,
            forget_users=self.forget,
            unseen_users=self.unseen,
            alike=self.alike,
            attacks=self.attacks,
            looks=self.looks,
        )


PANELS = (
    Panel(forget=60, unseen=160),
    Panel(forget=60, unseen=160, attacks=4),
    Panel(forget=60, unseen=160, looks=5),
    Panel(forget=300, unseen=300),
    Panel(forget=3, unseen=8, rows=20, alike=0.02),
    Panel(forget=5, unseen=8, rows=20, alike=0.1),
    Panel(forget=6, unseen=16, rows=10, alike=0.1),
    Panel(forget=10, unseen=20, rows=6, alike=0.3),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument(
        "--runs", type=int, default=2000, help="of each cell; a quarter where there are several attacks"
    )
    given = parser.parse_args()
    start = time.perf_counter()
    verdicts = [cell for panel in PANELS for cell in verdict_cells(panel, given.runs)]
    intervals = [interval_cell(name, draw, max(given.runs // 4, 20)) for name, draw in DRAWS.items()]
    result = {"verdicts": verdicts, "intervals": intervals, "seconds": round(time.perf_counter() - start)}
    for cell in (*verdicts, *intervals):
        print(json.dumps(cell))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        rows = ",\n".join(f'"{name}": [\n{lines(result[name])}\n]' for name in ("verdicts", "intervals"))
        given.json.write_text(f'{{\n{rows},\n"seconds": {result["seconds"]}\n}}\n', encoding="utf-8")


def lines(cells: list[dict[str, Any]]) -> str:
    return ",\n".join(map(json.dumps, cells))


def share(count: int, runs: int) -> dict[str, float]:
    lo, hi = clopper_pearson(count, runs)
    return {"share": count / runs, "lo": round(float(lo), 4), "hi": round(float(hi), 4)}


def verdict_cells(panel: Panel, runs: int) -> list[dict[str, Any]]:
    shown = margin_shown(panel.design)
    margin = min(max(shown, 0.1), 0.2)
    runs = max(runs // (4 if panel.attacks > 1 or panel.looks > 1 else 1), 20)
    cells = []
    for number, area in enumerate((0.5, 0.5 + margin, 0.5 - margin, 0.5 + margin / 2, 0.9)):
        rng = np.random.default_rng([panel.forget, panel.rows, panel.attacks, panel.looks, number])
        counts = Counter[str]()
        for _ in range(runs):
            looks = [
                equivalence(*scores(panel, area, rng), margin=margin, **panel_of(panel)) for _ in range(panel.looks)
            ]
            counts.update({look.verdict for look in looks})
        cells.append(
            {
                "forget": panel.forget,
                "unseen": panel.unseen,
                "rows": panel.rows,
                "alike": panel.alike,
                "attacks": panel.attacks,
                "looks": panel.looks,
                "shown": round(shown, 4),
                "margin": round(margin, 4),
                "auc": round(area, 4),
                "runs": runs,
                "verdicts": {verdict: share(count, runs) for verdict, count in sorted(counts.items())},
            }
        )
    return cells


def panel_of(panel: Panel) -> dict[str, Any]:
    users = np.repeat(np.arange(panel.forget + panel.unseen), panel.rows) if panel.rows > 1 else None
    return {"users": users, "looks": panel.looks}


def scores(panel: Panel, area: float, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    owner = np.repeat(np.arange(panel.forget + panel.unseen), panel.rows)
    forget = owner < panel.forget
    user, common = rng.normal(size=panel.forget + panel.unseen)[owner], rng.normal(size=len(owner))
    drawn = {}
    for attack in range(panel.attacks):
        noise = math.sqrt(COMMON) * common + math.sqrt(1 - COMMON) * rng.normal(size=len(owner))
        score = math.sqrt(panel.alike) * user + math.sqrt(1 - panel.alike) * noise
        drawn[f"attack {attack}"] = score + math.sqrt(2) * float(ndtri(area)) * forget
    return drawn, forget


def interval_cell(name: str, draw: Callable[[np.random.Generator], bool], runs: int) -> dict[str, Any]:
    rng = np.random.default_rng(len(name))
    return {"interval": name, "runs": runs, "misses": share(sum(draw(rng) for _ in range(runs)), runs)}


def retrained(k: int, quantities: int) -> Callable[[np.random.Generator], bool]:
    def misses(rng: np.random.Generator) -> bool:
        draws = {f"quantity {number}": rng.normal(size=k + 1) for number in range(quantities)}
        model, models = ({name: draw[part] for name, draw in draws.items()} for part in (0, slice(1, None)))
        return not among_retrained(model, models).inside

    return misses


def mean(users: int, rows: int) -> Callable[[np.random.Generator], bool]:
    def misses(rng: np.random.Generator) -> bool:
        middle = np.repeat(np.clip(0.4 + 0.12 * rng.normal(size=users) * (rows > 1), 0.02, 0.98), rows)
        names = np.repeat(np.arange(users), rows) if rows > 1 else None
        estimate = mean_of_rows(rng.beta(3 * middle, 3 * (1 - middle)), names)
        return not estimate.lo <= 0.4 <= estimate.hi

    return misses


def rare_leak(rng: np.random.Generator) -> bool:
    estimate = mean_leak_at_k(rng.random((60, 16)) < np.where(rng.random(60) < 0.1, 0.2, 0.0)[:, None], 4)
    return not estimate.lo <= 0.1 * (1 - 0.8**4) <= estimate.hi


def gap(shift: float, users: int) -> Callable[[np.random.Generator], bool]:
    def misses(rng: np.random.Generator) -> bool:
        owner = np.repeat(np.arange(2 * users), 60 // users)
        score = math.sqrt(0.4) * rng.normal(size=2 * users)[owner] + math.sqrt(0.6) * rng.normal(size=len(owner))
        half = len(owner) // 2
        statistic = distribution_gap(
            score[:half] + shift, score[half:], owner[:half], owner[half:], n_boot=400
        ).statistic
        return not statistic.lo <= 2 * norm.cdf(shift / 2) - 1 <= statistic.hi

    return misses


DRAWS: dict[str, Callable[[np.random.Generator], bool]] = {
    "one of 3 retrained": retrained(3, 1),
    "one of 5 retrained": retrained(5, 1),
    "three of 5 retrained": retrained(5, 3),
    "mean of 5 users": mean(5, 20),
    "mean of 20 users": mean(20, 10),
    "mean of 40 rows": mean(40, 1),
    "rare leak@4": rare_leak,
    "gap of 0, 60 rows": gap(0.0, 60),
    "gap of 0.31, 60 rows": gap(0.8, 60),
    "gap of 0.31, 12 users": gap(0.8, 12),
}


if __name__ == "__main__":
    main()
