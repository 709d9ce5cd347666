# SPDX-License-Identifier: Apache-2.0
"""Lower bounds on ε on simulated engines of known ε: how large they come out, and how often they are above the truth.

Scores are those of the Gaussian mechanism: N(mu, 1) for units that were in and N(0, 1) for the others, with fair coins,
mu such that (ε, 1e-5) is exact. Each bound is made as the audit makes it.

============  =========================================================================================================
``size``      medians over runs and the share of runs in which the bound is above the truth (with a 95 % Clopper-Pearson
              interval), by ε and number of units, at 95 % each and at the level of ``PUBLISHED``
``luck``      the same share where all units share the luck of one noise, though each of them has exactly mu: what the
              assumption "units do not interact" is worth
``few``       medians where one unit in ten is exposed with mu = 3 and the others are not at all
``guesses``   the one-run bound by how many units are guessed at, which chose `stats.one_run.guesses_a_side`
============  =========================================================================================================

``order`` is the bound of arXiv:2509.08704 for Gaussian mechanisms (expected errors of the surest guesses by order
statistics, Chernoff's tail), written anew from the paper's description and given the best threshold: it is no part of
the product, see ``docs/statistics.md``. ``guess all`` guesses at every unit, ``guess 20 %`` at the surest fifth.

    python benchmarks/epsilon_bounds.py --json benchmarks/results/epsilon_bounds.json
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from reticent.stats.epsilon import count_guesses, epsilon_clopper_pearson, epsilon_gdp_roc, gdp_epsilon
from reticent.stats.epsilon_auc import epsilon_gdp_auc
from reticent.stats.intervals import clopper_pearson
from reticent.stats.one_run import gdp_one_run_mu, guesses_a_side, one_run_epsilon

DELTA = 1e-5
EPSILONS = (1, 2, 4, 8)
UNITS = (100, 500, 1000, 5000)
LEVELS = (0.05, 1 / 180)
"""Misses allowed: of a bound by itself, and of one of three bounds where ε has a third of 5 % (``PUBLISHED``)."""
PUBLISHED = {
    "one_run": {(1, 1000): 0.09, (2, 500): 0.32, (2, 1000): 0.56, (2, 5000): 0.69, (4, 100): 0.21, (4, 500): 0.91,
                (4, 1000): 1.20, (4, 5000): 1.45, (8, 100): 0.78, (8, 500): 2.13, (8, 1000): 2.48, (8, 5000): 3.16},
    "gdp_one_run": {(1, 1000): 0.11, (2, 500): 0.45, (2, 1000): 0.77, (2, 5000): 0.88, (4, 100): 0.29, (4, 500): 1.31,
                    (4, 1000): 1.67, (4, 5000): 1.83, (8, 100): 1.17, (8, 500): 3.18, (8, 1000): 3.57, (8, 5000): 4.22},
    "clopper_pearson": {(1, 1000): 0, (2, 500): 0, (2, 1000): 0.18, (2, 5000): 0.48, (4, 100): 0, (4, 500): 0.41,
                        (4, 1000): 0.79, (4, 5000): 1.30, (8, 100): 0.41, (8, 500): 1.45, (8, 1000): 1.75,
                        (8, 5000): 2.96},
    "gdp_roc": {(1, 1000): 0, (2, 500): 0, (2, 1000): 0.42, (2, 5000): 1.29, (4, 100): 0, (4, 500): 1.48,
                (4, 1000): 2.28, (4, 5000): 2.94, (8, 100): 1.50, (8, 500): 4.61, (8, 1000): 5.63, (8, 5000): 7.00},
    "gdp_auc": {(1, 1000): 0.43, (2, 500): 0.82, (2, 1000): 1.20, (2, 5000): 1.68, (4, 100): 1.10, (4, 500): 2.85,
                (4, 1000): 3.19, (4, 5000): 3.41, (8, 100): 4.59, (8, 500): 6.36, (8, 1000): 7.02, (8, 5000): 7.60},
}  # fmt: skip
"""What the product's bounds gave before, and a first trial of the AUC's: medians of 4 to 11 runs at 1 / 180 a bound."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", choices=("size", "luck", "few", "guesses"), help="one part")
    parser.add_argument("--table", type=Path, help="print the tables of the documentation from this file, run nothing")
    given = parser.parse_args()
    if given.table:
        print(tables(json.loads(given.table.read_text(encoding="utf-8"))))
        return
    parts: dict[str, Callable[[int], list[dict[str, Any]]]]
    parts = {"size": size, "luck": luck, "few": few, "guesses": guesses}
    wanted = [given.only] if given.only else list(parts)
    result: dict[str, Any] = {"delta": DELTA}
    if given.json and given.json.exists():  # one part can be run again by itself
        result = json.loads(given.json.read_text(encoding="utf-8"))
    for name in wanted:
        result[name] = parts[name](given.runs)
        print(json.dumps(result[name]), flush=True)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(by_line(result), encoding="utf-8")


def by_line(result: dict[str, Any]) -> str:
    """As JSON with one row a line."""
    parts = [
        f'"{name}": ' + (f"[\n{rows}\n]" if isinstance(part, list) else json.dumps(part))
        for name, part in result.items()
        for rows in [",\n".join(map(json.dumps, part)) if isinstance(part, list) else ""]
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def mu_of(epsilon: float) -> float:
    return float(brentq(lambda mu: gdp_epsilon(mu, DELTA) - epsilon, 1e-3, 20))


def size(runs: int) -> list[dict[str, Any]]:
    """Every bound on the Gaussian mechanism."""
    rows = []
    for epsilon in EPSILONS:
        mu = mu_of(epsilon)
        for units in UNITS:
            for level in LEVELS:
                rng = np.random.default_rng([epsilon, units])
                found = [bounds(*gaussian(rng, mu, units), level, middle=mu / 2) for _ in range(runs)]
                rows += summary(found, epsilon, {"epsilon": epsilon, "units": units, "miss": level})
    for row in rows:
        published = PUBLISHED.get(row["bound"], {}).get((row["epsilon"], row["units"]))
        row["published"] = published if row["miss"] == LEVELS[1] else None
    return rows


def luck(runs: int) -> list[dict[str, Any]]:
    """One draw of the Gaussian's privacy loss for all units, then each coin told with these odds."""
    rows = []
    for epsilon in EPSILONS:
        mu = mu_of(epsilon)
        rng = np.random.default_rng([1, epsilon])
        found = []
        for _ in range(runs):
            member = rng.random(1000) < 0.5
            loss = abs(mu * (rng.normal(mu * (rng.random() < 0.5)) - mu / 2))
            right = rng.random(1000) < expit(loss)
            score = np.where(right, member, ~member) + 1e-9 * rng.random(1000)
            found.append(bounds(member, score, LEVELS[0], middle=0.5))
        rows += summary(found, epsilon, {"epsilon": epsilon, "units": 1000, "miss": LEVELS[0]})
    return rows


def few(runs: int) -> list[dict[str, Any]]:
    """One unit in ten is exposed."""
    rows = []
    for units in UNITS:
        rng = np.random.default_rng([2, units])
        found = []
        for _ in range(min(runs, 200)):
            member = rng.random(units) < 0.5
            found.append(bounds(member, rng.normal(3.0 * member * (rng.random(units) < 0.1)), LEVELS[0], middle=1.5))
        rows += summary(found, gdp_epsilon(3.0, DELTA), {"mu": 3.0, "exposed": 0.1, "units": units, "miss": LEVELS[0]})
    return rows


def guesses(runs: int) -> list[dict[str, Any]]:
    """Mean of the one-run bound, over ε, by how many are guessed a side."""
    rows = []
    for units in (20, 40, 60, 100, 150, 200, 300, 500, 1000, 5000):
        sides = sorted({max(1, round(units * share)) for share in (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.33, 0.5)})
        sides = sorted({*sides, guesses_a_side(units)})
        sides = [side for side in sides if 2 * side <= units]
        totals = {side: dict.fromkeys(EPSILONS, 0.0) for side in sides}
        for epsilon in EPSILONS:
            mu, rng, n = mu_of(epsilon), np.random.default_rng([3, epsilon, units]), min(runs, 400)
            for _ in range(n):
                member, score = gaussian(rng, mu, units)
                for side in sides:
                    right = count_guesses(score[member], score[~member], k_plus=side, k_minus=side).correct
                    totals[side][epsilon] += by_counts(units, 2 * side, right, 0.01) / n
        for side in sides:
            shown = {f"epsilon_{epsilon}": round(value, 3) for epsilon, value in totals[side].items()}
            rows.append(
                {"units": units, "side": side, "runs": min(runs, 400), "chosen": side == guesses_a_side(units), **shown}
            )
    return rows


def gaussian(rng: np.random.Generator, mu: float, units: int) -> tuple[np.ndarray, np.ndarray]:
    member = rng.random(units) < 0.5
    return member, rng.normal(mu * member)


def bounds(member: np.ndarray, score: np.ndarray, miss: float, *, middle: float) -> dict[str, float]:
    inside, outside = score[member], score[~member]
    side = guesses_a_side(len(member))
    right = count_guesses(inside, outside, k_plus=side, k_minus=side).correct
    about: dict[str, Any] = {"delta": DELTA, "unit": "record", "confidence": 1 - miss}
    return {
        "one_run": by_counts(len(member), 2 * side, right, miss),
        "gdp_one_run": by_counts_gdp(len(member), 2 * side, right, miss),
        "clopper_pearson": epsilon_clopper_pearson(inside, outside, **about).value,
        "gdp_roc": epsilon_gdp_roc(inside, outside, **about).value,
        "gdp_auc": epsilon_gdp_auc(inside, outside, **about).value,
        "gdp_auc_pairs": epsilon_gdp_auc(inside, outside, pairs=True, **about).value,
        "order, guess all": order(member, score - middle, 1.0, miss),
        "order, guess 20 %": order(member, score - middle, 0.2, miss),
    }


@functools.cache
def by_counts(units: int, made: int, right: int, miss: float) -> float:
    return one_run_epsilon(units, made, right, delta=DELTA, miss=miss)


@functools.cache
def by_counts_gdp(units: int, made: int, right: int, miss: float) -> float:
    return gdp_epsilon(gdp_one_run_mu(units, made, right, miss=miss), DELTA)


def order(member: np.ndarray, signed: np.ndarray, share: float, miss: float) -> float:
    """Guess by sign on the surest ``share`` of the units; the largest μ under which so few errors are too few."""
    made = max(1, round(share * len(member)))
    surest = np.argsort(-np.abs(signed))[:made]
    wrong = int(((signed[surest] > 0) != member[surest]).sum())
    return by_errors(len(member), made, wrong, miss)


@functools.cache
def by_errors(units: int, made: int, wrong: int, miss: float) -> float:
    if chernoff(units, made, wrong, 1e-6) > miss:
        return 0.0
    low, high = 1e-6, 16.0
    while high - low > 1e-4:
        mu = (low + high) / 2
        low, high = (mu, high) if chernoff(units, made, wrong, mu) <= miss else (low, mu)
    return gdp_epsilon(low, DELTA)


def chernoff(units: int, made: int, wrong: int, mu: float) -> float:
    """Bound on the probability of so few errors: the k-th surest of n guesses errs with 1 / (1 + e^|loss|) at the
    quantile of its rank, errors taken as independent."""
    ranks = (units - np.arange(made)) / (units + 1)
    grid = np.linspace(0, 10 + mu, 4001)  # distance from the middle
    reached = ndtr(grid - mu / 2) - ndtr(-grid - mu / 2)
    errs = expit(-mu * np.interp(ranks, reached, grid))
    if wrong >= errs.sum():
        return 1.0
    if wrong == 0:
        return float(np.exp(np.log1p(-errs).sum()))

    def slope(t: float) -> float:
        return float((errs * math.exp(t) / (1 - errs + errs * math.exp(t))).sum() - wrong)

    t = brentq(slope, -50, 0) if slope(-50) < 0 else -50.0
    return float(np.exp(-t * wrong + np.log1p(errs * math.expm1(t)).sum()))


def summary(found: list[dict[str, float]], truth: float, about: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name in found[0]:
        values = np.array([one[name] for one in found])
        above = int((values > truth).sum())
        lo, hi = clopper_pearson(above, len(values))
        rows.append(
            {
                **about,
                "bound": name,
                "runs": len(values),
                "median": round(float(np.median(values)), 3),
                "above": above / len(values),
                "above_lo": round(float(lo), 4),
                "above_hi": round(float(hi), 4),
            }
        )
    return rows


NAMES = {
    "one_run": "one run",
    "gdp_one_run": "one run, Gaussian",
    "clopper_pearson": "Clopper–Pearson",
    "gdp_roc": "ROC, Gaussian",
    "gdp_auc": "AUC, Gaussian",
    "gdp_auc_pairs": "AUC, pairs",
    "order, guess all": "order statistics, all guessed",
}


def tables(result: dict[str, Any]) -> str:
    """The tables of docs/statistics.md."""
    lines = [f"| true ε | units | {' | '.join(NAMES.values())} |", "|---|---|" + "---|" * len(NAMES)]
    rows = {(row["epsilon"], row["units"], row["miss"], row["bound"]): row for row in result["size"]}
    for epsilon in EPSILONS:
        for units in UNITS:
            cells = []
            for name in NAMES:
                own, strict = rows[epsilon, units, LEVELS[0], name], rows[epsilon, units, LEVELS[1], name]
                published = "" if strict["published"] is None else f" ({strict['published']:.2f})"
                cells.append(f"{own['median']:.2f}, {strict['median']:.2f}{published}")
            lines.append(f"| {epsilon} | {units:,} | {' | '.join(cells)} |")
    lines += ["", "| | " + " | ".join(NAMES.values()) + " |", "|---|" + "---|" * len(NAMES)]
    for level, what in zip(LEVELS, ("5 %", "0.56 %"), strict=True):
        at_level = [row for row in result["size"] if row["miss"] == level]
        worst = [max((row for row in at_level if row["bound"] == name), key=lambda row: row["above"]) for name in NAMES]
        cells = [above(row) for row in worst]
        lines.append(f"| independent, {what} allowed, the worst of 16 | {' | '.join(cells)} |")
    for epsilon in EPSILONS:
        own = {row["bound"]: row for row in result["luck"] if row["epsilon"] == epsilon}
        cells = [above(own[name]) for name in NAMES]
        lines.append(f"| shared luck, ε = {epsilon}, 5 % allowed | {' | '.join(cells)} |")
    lines += ["", "| units | " + " | ".join(NAMES.values()) + " |", "|---|" + "---|" * len(NAMES)]
    for units in UNITS:
        own = {row["bound"]: row for row in result["few"] if row["units"] == units}
        lines.append(f"| {units:,} | {' | '.join(format(own[name]['median'], '.2f') for name in NAMES)} |")
    return "\n".join(lines)


def above(row: dict[str, Any]) -> str:
    return f"{row['above']:.1%} [{row['above_lo']:.1%}, {row['above_hi']:.1%}]"


if __name__ == "__main__":
    main()
