# SPDX-License-Identifier: Apache-2.0
"""How often the band around a ROC curve (``stats.roc_band``) holds the whole true curve, and how wide it is.

Scores are drawn from two Gaussians a known distance apart, alone or with users whose records are alike; the true curve
is compared everywhere from the band's first false positive rate on, between its places by monotony (95 % stated).

    python benchmarks/roc_band.py --json benchmarks/results/roc_band.json --markdown
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from reticent.stats.roc_band import Band, roc_band
from reticent.stats.simultaneous import sides

ALONE = (50, 100, 300, 1000)
"""Units a side."""
USERS = ((40, 20, 0.3), (40, 20, 0.7), (100, 10, 0.5))
"""Users, records of each, and how alike these are."""
AUCS = (0.5, 0.7, 0.9)
FINE = np.linspace(0.0005, 0.9995, 2000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--draws", type=int, default=300, help="of each design")
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw: other draws than those before")
    parser.add_argument("--markdown", action="store_true", help="print a table")
    chosen = parser.parse_args()
    designs = [(2 * side, 1, 0.0) for side in ALONE] + list(USERS)
    rows = []
    for users, each, likeness in designs:
        for auc in AUCS:
            found = [
                drawn(users, each, likeness, auc, seed) for seed in range(chosen.first, chosen.first + chosen.draws)
            ]
            rows.append(
                {
                    "owners": users,
                    "each": each,
                    "likeness": likeness,
                    "auc": auc,
                    "draws": chosen.draws,
                    "first": chosen.first,
                }
                | {
                    "holds": float(np.mean([row[0] for row in found])),
                    "width": float(np.mean([row[1] for row in found])),
                }
            )
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if chosen.markdown:
        print("| owners | records of each | likeness | AUC | holds the curve | mean width |\n|---|---|---|---|---|---|")
        for row in rows:
            print("| {owners} | {each} | {likeness} | {auc} | {holds:.1%} | {width:.2f} |".format(**row))
    else:
        print(json.dumps({"least": min(row["holds"] for row in rows), "most": max(row["holds"] for row in rows)}))


def drawn(users: int, each: int, likeness: float, auc: float, seed: int) -> tuple[bool, float]:
    rng = np.random.default_rng([seed, users, each, round(100 * auc)])
    distance = np.sqrt(2) * ndtri(auc)
    owner = np.repeat(np.arange(users), each)
    noise = np.sqrt(likeness) * rng.normal(size=users)[owner]
    member = rng.random(len(owner)) < 0.5 if each > 1 else np.arange(len(owner)) < len(owner) // 2
    score = noise + np.sqrt(1 - likeness) * rng.normal(size=len(owner)) + distance * member
    band = roc_band(score, sides(member, owner.astype(str).astype(object)), seed=seed)
    assert band is not None
    return holds(band, distance), float(np.mean(np.subtract(band.hi, band.lo)))


def holds(band: Band, distance: float) -> bool:
    true = ndtr(distance + ndtri(FINE))
    lo = np.array((0.0, *band.lo))[np.searchsorted(band.fpr, FINE, side="right")]
    hi = np.array((*band.hi, 1.0))[np.searchsorted(band.fpr, FINE, side="left")]
    seen = band.fpr[0] <= FINE
    return bool(((lo <= true) & (true <= hi))[seen].all())


if __name__ == "__main__":
    main()
