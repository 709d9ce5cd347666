# SPDX-License-Identifier: Apache-2.0
"""How often an audit sees a leak of known size, beside one DeLong interval of the best attack alone at the same 5 %.

Scores are drawn with the likeness of attacks on real models and go through the product's own judging
(``auditing.conclude.conclude``). ``power`` is the share of audits whose verdict is "leaks"; ``power_of_level`` of those
in which this level has a finding that counts. ``power_plain`` is the share in which the 95 % interval of the attack
that is in truth the strongest lies above 0.5, which nobody knows beforehand. ``primary`` says whether the attack that
was named beforehand is the strongest one (``right``) or has half its distance (``weak``).

    python benchmarks/power.py --json benchmarks/results/power.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from reticent.auditing.config import AuditConfig
from reticent.core.results import Results
from reticent.stats.intervals import clopper_pearson
from reticent.stats.roc import auc
from reticent.testing.simulated_audits import ACROSS, STRENGTH, WITHIN, SimulatedAudit, audited, distance, scores

FEW = 0.1
"""Share of members that are memorized in the rows that say so, by three standard deviations."""
USER_STRENGTH = STRENGTH | {"ref_ratio": 1.0, "min_k_plus": 1.0, "user_inference": 0.85, "ez_mia": 0.85, "wbc": 0.85}
"""By means over a user's fresh texts the order is another (docs/results/membership.md)."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row.

    Args:
        level: what leaks.
        n: units a side.
        auc: of the strongest attack.
        few: whether a tenth of the members makes it.
        primary: ``right`` or ``weak``.
    """

    level: str
    n: int
    auc: float
    few: bool = False
    primary: str = "right"


CASES = [
    *(Case(level="record", n=n, auc=a) for n, a in ((100, 0.55), (100, 0.6), (100, 0.7), (250, 0.55), (250, 0.6))),
    Case(level="record", n=1000, auc=0.55),
    Case(level="record", n=100, auc=0.55, few=True),
    Case(level="record", n=250, auc=0.55, few=True),
    Case(level="record", n=100, auc=0.6, primary="weak"),
    Case(level="record", n=250, auc=0.55, primary="weak"),
    Case(level="user", n=25, auc=0.7),
    Case(level="user", n=25, auc=0.8),
    Case(level="user", n=50, auc=0.65),
    Case(level="user", n=25, auc=0.7, primary="weak"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--audits", type=int, default=400, help="of each row")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(chosen.processes) as pool:
        for place, case in enumerate(CASES):
            seen = list(pool.map(one, [place] * chosen.audits, range(chosen.audits), chunksize=8))
            any_, level, plain = (sum(column) for column in zip(*seen, strict=True))
            rows.append(
                asdict(case)
                | {
                    "correlation": {"within": WITHIN, "across": ACROSS},
                    "audits": chosen.audits,
                    "power": any_ / chosen.audits,
                    "interval": [float(end) for end in clopper_pearson(any_, chosen.audits)],
                    "power_of_level": level / chosen.audits,
                    "power_plain": plain / chosen.audits,
                }
            )
            print({key: rows[-1][key] for key in ("level", "n", "auc", "few", "primary", "power", "power_of_level",
                                                  "power_plain")}, file=sys.stderr)  # fmt: skip
            if chosen.json:
                chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if not chosen.json:
        print(json.dumps(rows, indent=2))


def one(place: int, seed: int) -> tuple[bool, bool, bool]:
    """Whether a leak was seen at all, at the level where it is, and by one interval of the strongest attack."""
    os.environ["OMP_NUM_THREADS"] = "1"
    case = CASES[place]
    rng = np.random.default_rng([place, seed])
    drawn = of_records(case, rng) if case.level == "record" else of_users(case, rng)
    results: Results = audited(drawn, rng, AuditConfig())
    counted = {finding.level for finding in results.findings if str(finding.severity) != "none"}
    return bool(counted), case.level in counted, plain(case, rng)


def strength(case: Case) -> dict[str, float]:
    order = dict(STRENGTH if case.level == "record" else USER_STRENGTH)
    first = ("wbc", "ez_mia") if case.level == "record" else ("ref_ratio",)
    return order | dict.fromkeys(first, 0.5) | {"min_k_plus": 1.0} if case.primary == "weak" else order


def of_records(case: Case, rng: np.random.Generator) -> SimulatedAudit:
    """Records with a coin each, of which as many are in as out."""
    member = rng.permutation(2 * case.n) < case.n
    shift = distance(case.auc) * member
    if case.few:
        shift = 3.0 * (member & (rng.random(2 * case.n) < FEW))
    return SimulatedAudit(member=member, unit="record", shift=shift, strength=strength(case))


def of_users(case: Case, rng: np.random.Generator) -> SimulatedAudit:
    """Users with a coin each and four fresh texts; those who are in have four that were trained on, as likely as the
    fresh ones. Texts of a user are alike by half; the mean over fresh texts has the AUC that is asked for."""
    each, likeness = 4, 0.5
    inside = rng.permutation(2 * case.n) < case.n
    fresh = np.repeat(np.arange(2 * case.n), each)
    trained = np.repeat(np.flatnonzero(inside), each)
    owner = np.concatenate([fresh, trained])
    spread = np.sqrt(likeness + (1 - likeness) / each)
    return SimulatedAudit(
        member=np.arange(len(owner)) >= len(fresh),
        user_member=inside[owner],
        user=np.array([f"u{number:04d}" for number in owner], dtype=object),
        unit="user",
        likeness=likeness,
        shift=distance(case.auc) * spread * inside[owner],
        strength=strength(case),
    )


def plain(case: Case, rng: np.random.Generator) -> bool:
    """One DeLong interval of the attack that is in truth the strongest, drawn anew."""
    best = "min_k_plus" if case.primary == "weak" else ("wbc" if case.level == "record" else "ref_ratio")
    if case.level == "record":
        drawn = of_records(case, rng)
        found, label = scores(drawn, rng)[best], drawn.member
    else:
        drawn = of_users(case, rng)
        assert drawn.user is not None
        assert drawn.user_member is not None
        rows = ~drawn.member
        owner = np.unique(drawn.user[rows].astype(str), return_inverse=True)[1]
        found = np.bincount(owner, weights=scores(drawn, rng)[best][rows]) / np.bincount(owner)
        label = np.bincount(owner, weights=drawn.user_member[rows]) > 0
    return auc(found[label], found[~label]).lo > 0.5


if __name__ == "__main__":
    main()
