# SPDX-License-Identifier: Apache-2.0
"""How often an audit says "leaks" of a model that gives nothing away, over designs, likeness, ties and few units.

Scores are drawn with no difference between members and held-out units and go through the product's own judging
(``auditing.conclude.conclude``: ten attacks, their combination, discrepancy, ε, planted secrets). Stated: 5 % at most.
``upper`` is the upper end of the 95 % Clopper-Pearson interval of the share of false alarms, ``lower_99`` the lower end
of the 99 % one: above 0.05 it would say that the stated error is exceeded by more than chance.

    python benchmarks/null_audits.py --json benchmarks/results/null_audits.json
    python benchmarks/null_audits.py --scenarios "20 a side" --audits 50
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from reticent.core.results import Results
from reticent.stats.intervals import clopper_pearson
from reticent.testing.simulated_audits import SimulatedAudit, SimulatedSecrets, audited

Draw = Callable[[np.random.Generator], SimulatedAudit]


def given(inside: int, outside: int) -> Draw:
    """Two lists without users."""

    def draw(rng: np.random.Generator) -> SimulatedAudit:
        member = np.arange(inside + outside) < inside
        return SimulatedAudit(member=member, unit="given", shift=np.zeros(len(member)))

    return draw


def coins(records: int, *, ties: float = 0.0, secrets: SimulatedSecrets | None = None) -> Draw:
    """A fair coin for each record, no users."""

    def draw(rng: np.random.Generator) -> SimulatedAudit:
        member = rng.random(records) < 0.5
        return SimulatedAudit(member=member, unit="record", shift=np.zeros(records), ties=ties, secrets=secrets)

    return draw


def coins_of_records(users: int, likeness: float) -> Draw:
    """A fair coin for each of the ten records of each user."""

    def draw(rng: np.random.Generator) -> SimulatedAudit:
        user = names(users, np.full(users, 10))
        member = rng.random(len(user)) < 0.5
        return SimulatedAudit(member=member, unit="record", shift=np.zeros(len(user)), user=user, likeness=likeness)

    return draw


def coins_of_users(users: int, likeness: float) -> Draw:
    """A fair coin for each user, and one for each of their ten records; who is out shows fresh ones."""

    def draw(rng: np.random.Generator) -> SimulatedAudit:
        user = names(users, np.full(users, 10))
        inside = np.repeat(rng.random(users) < 0.5, 10)
        train = rng.random(len(user)) < 0.5
        shown = inside | ~train
        return SimulatedAudit(
            member=(inside & train)[shown],
            user_member=inside[shown],
            unit="user",
            shift=np.zeros(int(shown.sum())),
            user=user[shown],
            likeness=likeness,
        )

    return draw


def one_sided(users: int, likeness: float, *, zipf: bool = False, each: int = 20) -> Draw:
    """Given lists: half of the users are in with all of their records."""

    def draw(rng: np.random.Generator) -> SimulatedAudit:
        sizes = np.maximum(1, (40 / np.arange(1, users + 1) ** 0.7).astype(int)) if zipf else np.full(users, each)
        user = names(users, rng.permutation(sizes))
        chosen = rng.permutation(users) < users // 2
        member = chosen[np.unique(user.astype(str), return_inverse=True)[1]]
        return SimulatedAudit(member=member, unit="given", shift=np.zeros(len(user)), user=user, likeness=likeness)

    return draw


def names(users: int, sizes: np.ndarray) -> np.ndarray:
    """``[N]`` user of each record."""
    return np.repeat(np.array([f"u{user:04d}" for user in range(users)], dtype=object), sizes)


SCENARIOS: dict[str, Draw] = {
    "20 a side": given(20, 20),
    "50 a side": given(50, 50),
    "200 a side": given(200, 200),
    "30 / 300": given(30, 300),
    "fair coins, 400 records": coins(400),
    "heavy ties (1 sd)": coins(200, ties=1.0),
    "heavy ties (3 sd)": coins(200, ties=3.0),
    "coins by record, 40 users, likeness .3": coins_of_records(40, 0.3),
    "coins by record, 40 users, likeness .7": coins_of_records(40, 0.7),
    "coins by user, 60 users, likeness .3": coins_of_users(60, 0.3),
    "coins by user, 60 users, likeness .7": coins_of_users(60, 0.7),
    **{
        f"given, {users} one-sided users, likeness {likeness}": one_sided(users, likeness)
        for users in (16, 30, 40)
        for likeness in (0.3, 0.7)
    },
    "given, 40 one-sided users of Zipf sizes, likeness .7": one_sided(40, 0.7, zipf=True),
    **{
        f"{each * tiers} secrets in {tiers} tier{'s' if tiers > 1 else ''}": coins(
            60, secrets=SimulatedSecrets(tiers=(1, 4, 16)[:tiers], each=each)
        )
        for each, tiers in ((1, 1), (6, 1), (20, 1), (100, 1), (5, 2), (2, 3), (4, 3), (10, 3), (20, 3), (33, 3))
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the table here")
    parser.add_argument("--audits", type=int, default=400, help="of each scenario")
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS), metavar="NAME")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(chosen.processes) as pool:
        for name in chosen.scenarios:
            started = time.perf_counter()
            said = list(pool.map(alarms, [name] * chosen.audits, range(chosen.audits), chunksize=8))
            rows.append(row(name, said))
            print(f"{rows[-1]['name']}: {rows[-1]['false_alarms']} of {len(said)}, by {rows[-1]['by']} "
                  f"({time.perf_counter() - started:.0f} s)", file=sys.stderr)  # fmt: skip
            result = {"scenarios": rows, "worst_upper": max(one["upper"] for one in rows)}
            if chosen.json:
                chosen.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not chosen.json:
        print(json.dumps(result, indent=2))


def alarms(name: str, seed: int) -> list[str]:
    """What an audit of nothing says to have found: level and metric of each finding that counts."""
    os.environ["OMP_NUM_THREADS"] = "1"
    rng = np.random.default_rng([list(SCENARIOS).index(name), seed])
    results: Results = audited(SCENARIOS[name](rng), rng)
    found = sorted({f"{one.level} {one.metric}" for one in results.findings if str(one.severity) != "none"})
    assert bool(found) == (results.verdict.status == "leaks")
    return found


def row(name: str, said: list[list[str]]) -> dict[str, object]:
    """One line of the table."""
    count = sum(bool(one) for one in said)
    by: dict[str, int] = {}
    for one in said:
        for what in one:
            by[what] = by.get(what, 0) + 1
    return {
        "name": name,
        "audits": len(said),
        "false_alarms": count,
        "upper": float(clopper_pearson(count, len(said))[1]),
        "lower_99": float(clopper_pearson(count, len(said), confidence=0.99)[0]),
        "by": by,
    }


if __name__ == "__main__":
    main()
