# SPDX-License-Identifier: Apache-2.0
"""What shadow models find beside attacks that need none, by the number of shadow models.

A small GPT-2 (4 layers, width 128, pre-trained for a minute on other public texts) is fine-tuned on records of a public
text; a coin for each record; then ``reticent audit --shadow 8`` and 4: coins of shadow models are nested, so the
smaller number trains nothing. For each attack the AUC and the share of members found at 1 % and 10 % false alarms: the
mean over seeds, each with coins, records and training of its own, and the 95 % interval of that mean by resampling
members and held-out records within each seed.

    python benchmarks/shadow_models.py --data ../shared/data --json benchmarks/results/shadow_models.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from learned_attack_runs import base_folder, texts

from reticent.auditing.config import AuditConfig
from reticent.core.manifest import environment
from reticent.core.record import Record
from reticent.train.config import TuneConfig
from reticent.workflows.audit import audit
from reticent.workflows.tune import SplitConfig, tune

PLAIN = ("loss", "ref_ratio", "wbc", "ez_mia", "min_k_plus")
SHADOWED = ("lira", "lira_offline", "rmia_shadow", "rmia_shadow_offline")
FPRS = (0.01, 0.1)
DRAWS = 2000

Sides = tuple[np.ndarray, np.ndarray]


def auc(members: np.ndarray, held_out: np.ndarray) -> float:
    difference = members[:, None] - held_out
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def tpr(members: np.ndarray, held_out: np.ndarray, fpr: float) -> float:
    """Share of members above the threshold that at most this share of held-out records is above."""
    threshold = np.sort(held_out)[::-1][int(np.floor(fpr * len(held_out)))]
    return float((members > threshold).mean())


def figures(members: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    return np.array([auc(members, held_out), *(tpr(members, held_out, fpr) for fpr in FPRS)])


def over_seeds(sides: list[Sides], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    each = np.array([figures(*side) for side in sides])
    drawn = np.array(
        [
            np.mean([figures(*(rng.choice(side, len(side)) for side in pair)) for pair in sides], axis=0)
            for _ in range(DRAWS)
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    names = ("auc", *(f"tpr@{fpr:g}" for fpr in FPRS))
    return {
        name: {
            "mean": round(float(each[:, i].mean()), 4),
            "lo": round(float(low[i]), 4),
            "hi": round(float(high[i]), 4),
            "seeds": [round(float(value), 4) for value in each[:, i]],
        }
        for i, name in enumerate(names)
    }


def scores(path: Path) -> dict[str, Sides]:
    table = pq.read_table(path)
    member = np.array(table["member"])
    names = [name for name in (*PLAIN, *SHADOWED) if name in table.column_names]
    return {name: (np.array(table[name])[member], np.array(table[name])[~member]) for name in names}


def one_seed(seed: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Scores of each attack by its name, with the number of shadow models behind those that have some."""
    found = texts(args.texts, args.data)
    chosen = np.random.default_rng(seed).permutation(len(found))[: args.records]
    records = [Record(id=f"{args.texts}-{i}", text=found[i]) for i in chosen]
    made = tune(
        records,
        base=base_folder("gpt2", args.data, folder),
        out=folder / f"run-{seed}",
        split_config=SplitConfig(split_unit="record", split_seed=seed),
        tune_config=TuneConfig(
            epochs=args.epochs, learning_rate=args.learning_rate, max_tokens=args.max_tokens, seed=100 * seed
        ),
    )
    by_attack: dict[str, Any] = {}
    for count in sorted(args.shadows, reverse=True):
        audit(made, AuditConfig(attacks=",".join((*PLAIN, *SHADOWED)), shadow=count))
        for name, sides in scores(made.scores).items():
            by_attack[f"{name}, {count}" if name in SHADOWED else name] = sides
    return by_attack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of public texts")
    parser.add_argument("--texts", default="plays")
    parser.add_argument("--records", type=int, default=440)
    parser.add_argument("--max_tokens", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--shadows", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None, help="kept between calls; a temporary folder if left out")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    folder = args.work or Path(tempfile.mkdtemp())
    started = os.times()
    runs = [one_seed(seed, args, folder) for seed in range(args.seeds)]
    ended = os.times()
    attacks = {name: over_seeds([run[name] for run in runs]) for name in runs[0]}
    said = {
        "texts": args.texts,
        "records": args.records,
        "evaluated": [[len(side) for side in run["loss"]] for run in runs],
        "max_tokens": args.max_tokens,
        "epochs": args.epochs,
        "learning_rate": args.learning_rate,
        "cpu_seconds": round(ended.user + ended.system - started.user - started.system, 1),
        "attacks": attacks,
        "environment": environment(),
    }
    args.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    for name, one in attacks.items():
        print(f"{name:26}", *(f"{key} {v['mean']:.3f} [{v['lo']:.3f}, {v['hi']:.3f}]" for key, v in one.items()))


if __name__ == "__main__":
    main()
