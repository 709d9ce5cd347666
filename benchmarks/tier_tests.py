# SPDX-License-Identifier: Apache-2.0
"""How often a tier of planted secrets is called learned when it was not, and when it was, by the number of its secrets.

Secrets and controls have Gaussian losses; learned ones are lower by ``gain`` standard deviations. Level .0042: a sixth
of 2.5 %, what a tier has in a report of two levels and three tiers.

=============  ========================================================================================================
``rank``       the product: the exact rank test
``interval``   "the lower end of the interval of the tier's median exposure is above 1 bit", the same level
``own``        the same with the interval for the median of these secrets only, where they are too few to enclose the
               median over all so planted: how tiers were judged before
=============  ========================================================================================================

``misses`` is the share of intervals that do not hold the true median exposure. Without ties the test depends on the
rank sum alone, so its critical value is found once by the product's own function and runs are then compared with it;
with ties (losses in steps of one standard deviation) every run calls the function.

    python benchmarks/tier_tests.py --json benchmarks/results/tier_tests.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from reticent.stats.exposure import exposure, median_places, own_places, ranks
from reticent.stats.intervals import clopper_pearson, clopper_pearson_upper
from reticent.stats.rank_test import lower_p

LEVEL = 0.0042
SECRETS = (1, 2, 3, 6, 10, 20, 30)
CONTROLS = 250
GAINS = (0.0, 0.5, 1.0, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--tied", type=int, default=400, help="runs with ties; a quarter above 10 secrets")
    parser.add_argument("--table", type=Path, help="print the table of the documentation from this file, run nothing")
    given = parser.parse_args()
    if given.table:
        print(table(json.loads(given.table.read_text(encoding="utf-8"))))
        return
    rows = [row(n, gain, given.runs, given.tied // (1 if n <= 10 else 4)) for n in SECRETS for gain in GAINS]
    result = {"level": LEVEL, "controls": CONTROLS, "rows": rows}
    print(json.dumps(result))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(by_line(result), encoding="utf-8")


def by_line(result: dict[str, Any]) -> str:
    """As JSON with one row a line."""
    rows = ",\n".join(map(json.dumps, result["rows"]))
    return f'{{\n"level": {result["level"]},\n"controls": {result["controls"]},\n"rows": [\n{rows}\n]\n}}\n'


def table(result: dict[str, Any]) -> str:
    """The table of docs/statistics.md."""
    rows = {(row["secrets"], row["gain"]): row for row in result["rows"]}
    lines = [
        "| secrets | test, nothing learned | with ties | bits | these | test, 1 sd lower | bits | test, 2 sd lower "
        "| bits | interval misses at most |",
        "|---|" + "---|" * 9,
    ]
    for n in SECRETS:
        cells = [interval(rows[n, 0.0][name]) for name in ("rank", "rank_tied", "interval", "own")]
        cells += [f"{rows[n, gain][name]['share']:.2f}" for gain in (1.0, 2.0) for name in ("rank", "interval")]
        worst = max((rows[n, gain]["misses"] for gain in GAINS), key=lambda one: one["share"])
        lines.append(f"| {n} | {' | '.join(cells)} | {interval(worst)} |")
    return "\n".join(lines)


def interval(one: dict[str, float]) -> str:
    return f"{one['share']:.2%} [{one['lo']:.2%}, {one['hi']:.2%}]"


def row(n: int, gain: float, runs: int, tied: int) -> dict[str, Any]:
    rng = np.random.default_rng([n, round(10 * gain)])
    most = critical(n)
    learned, controls = rng.normal(-gain, 1, (runs, n)), rng.normal(size=(runs, CONTROLS))
    beaten = (learned[:, :, None] > controls[:, None, :]).sum(axis=(1, 2)) if n < 4 else rank_sums(learned, controls)
    some = 600
    intervals = [exposure(learned[i], controls[i], confidence=1 - LEVEL) for i in range(some)]
    truth = -float(log_ndtr(-gain)) / math.log(2)
    own = [own_lower_end(learned[i], controls[i]) > 1 for i in range(some)]
    pairs = ((rng.normal(-gain, 1, n), rng.normal(size=CONTROLS)) for _ in range(tied))
    steps = [lower_p(np.round(low), np.round(rest)) <= LEVEL for low, rest in pairs]
    return {
        "secrets": n,
        "gain": gain,
        "rank": share(int((beaten <= most).sum()), runs),
        "rank_tied": share(sum(steps), tied),
        "interval": share(sum(one.lo > 1 for one in intervals), some),
        "own": share(sum(own), some),
        "misses": share(sum(not one.lo <= truth <= one.hi for one in intervals), some),
    }


def rank_sums(learned: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Mann-Whitney's count for each run: how often a control beats a learned secret."""
    ordered = np.sort(controls, axis=1)
    return np.array([np.searchsorted(c, x).sum() for c, x in zip(ordered, learned, strict=True)])


def critical(n: int) -> int:
    """The largest count that is called learned at LEVEL, by the product's own p-value; -1: none is."""
    low, high = -1, n * CONTROLS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if p_of(n, middle) <= LEVEL else (low, middle)
    return low


def p_of(n: int, beaten: int) -> float:
    """The p-value of n secrets that controls beat so often together."""
    each = np.full(n, beaten // n)
    each[: beaten % n] += 1
    return lower_p(each + np.linspace(0.2, 0.8, n), np.arange(CONTROLS) + 0.9)


def own_lower_end(learned: np.ndarray, controls: np.ndarray) -> float:
    places = median_places(len(learned), 1 - LEVEL) or own_places(len(learned), 1 - LEVEL)
    beaten = np.sort(ranks(learned, controls) - 1)[places.weakest]
    return -math.log2(float(clopper_pearson_upper(beaten, len(controls), places.miss / 2)))


def share(hits: int, runs: int) -> dict[str, float]:
    lo, hi = clopper_pearson(hits, runs)
    return {"share": hits / runs, "lo": round(float(lo), 5), "hi": round(float(hi), 5), "runs": runs}


if __name__ == "__main__":
    main()
