# SPDX-License-Identifier: Apache-2.0
"""One row for each audited run: held-out loss beside the base's, what the attacks reach, ε promised and audited.

The losses come from the tables that the audit made, so nothing is scored again. Held-out texts are the evaluated ones
that were not trained on, of users who are in and out; the interval of the difference resamples whole users.

    python benchmarks/run_table.py runs/plain runs/record runs/user
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from reticent.core.membership import read_membership
from reticent.core.run_folder import RunFolder
from reticent.core.table import read_table

RECORD_ATTACKS = ("ez_mia", "ref_ratio", "loss")
USER_ATTACKS = ("user_inference", "ref_ratio:mean", "ez_mia:mean")
RESAMPLES = 4000


def losses(run: RunFolder, model: str) -> dict[str, tuple[float, int]]:
    """Record id → summed loss (nats) and number of trained tokens under ``model``, "target" or "reference"."""
    table = read_table(run.tables / f"evaluate.{model}.parquet")
    row, mask = table.row_of_token, table["loss_mask"]
    total = np.bincount(row, weights=-table["logp"].astype(np.float64) * mask, minlength=len(table))
    tokens = np.bincount(row, weights=mask, minlength=len(table)).astype(int)
    return {name: (total[i], int(tokens[i])) for i, name in enumerate(table.record_id.tolist())}


def held_out(run: RunFolder) -> dict[str, float]:
    """Mean held-out loss (nats a token) of both models, and their difference with a 95 % interval over users."""
    coins = read_membership(run.membership)
    ours, theirs = losses(run, "target"), losses(run, "reference")
    chosen = [i for i, name in enumerate(coins.record_id) if not coins.member[i] and name in ours]
    users, number = np.unique([str(coins.user[i]) for i in chosen], return_inverse=True)
    sums = np.zeros((3, len(users)))
    for user, i in zip(number, chosen, strict=True):
        name = coins.record_id[i]
        sums[:, user] += ours[name][0], theirs[name][0], ours[name][1]
    drawn = np.random.default_rng(0).multinomial(len(users), np.full(len(users), 1 / len(users)), RESAMPLES) @ sums.T
    lo, hi = np.quantile((drawn[:, 0] - drawn[:, 1]) / drawn[:, 2], [0.025, 0.975])
    loss, base = sums[0].sum() / sums[2].sum(), sums[1].sum() / sums[2].sum()
    return {"texts": len(chosen), "loss": loss, "base": base, "gain": loss - base, "lo": lo, "hi": hi}


def row(folder: str) -> dict[str, Any]:
    """Everything about one run."""
    run = RunFolder(root=Path(folder))
    results = json.loads(run.results.read_text(encoding="utf-8"))
    aucs = {}
    for finding in results["findings"]:
        wanted = RECORD_ATTACKS if finding["level"] == "record" else USER_ATTACKS
        if finding["metric"] == "auc" and finding["attack"] in wanted:
            key = f"{finding['level']} {finding['attack']}"
            aucs[key] = [round(finding[part], 3) for part in ("value", "lo", "hi")]
    bounds = [
        [finding["level"], round(finding["lo"], 2), finding["unit"], finding["notes"]]
        for finding in results["findings"]
        if finding["metric"] == "epsilon_lower"
    ]
    promise = json.loads(run.promise.read_text(encoding="utf-8")) if run.promise.exists() else None
    figures = {name: round(value, 4) for name, value in held_out(run).items()}
    return {"run": folder, **figures, "auc": aucs, "epsilon_lower": bounds, "promise": promise}


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(json.dumps(row(folder), indent=1, ensure_ascii=False))
