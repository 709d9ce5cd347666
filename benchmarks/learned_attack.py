# SPDX-License-Identifier: Apache-2.0
"""The learned attack beside EZ-MIA, WBC, the reference ratio and the combination, on fine-tunes it was not trained on.

Texts (mails, judgments, comments, reviews) and bases (tiny GPT-2 and GPT-NeoX, real SmolLM2-135M) that no training
run has; the tiny ones share tokenizer and pre-training texts with the bases of the training. Same records for all
attacks; differences with 95 % intervals by a paired bootstrap of records, members and held-out ones apart; "all" is
the mean over runs, each resampled. The combination is cross-fitted on either half of the run's own labels, without and
with the learned score as a further column; its AUC and TPR are means over the halves.

    python benchmarks/learned_attack.py --data ../shared/data --work runs/learned --json FILE

``--weights`` takes another network that ``learned_attack_training.py`` made.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from learned_attack_runs import COLUMNS, Made, Run, make
from rich.table import Table

from reticent.attacks import ATTACKS, run_attacks
from reticent.attacks.membership import learned
from reticent.attacks.membership.combination import combination
from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.progress import console

BESIDE = ("ez_mia", "wbc", "ref_ratio", "combination", "combination with learned")
DRAWS = 2000


def runs() -> list[Run]:
    """The fine-tunes that are evaluated."""
    real = {"base": "smollm2-135m", "members": 60, "held_out": 100, "max_tokens": 48}
    found = [
        Run(**real, texts="mails", method="full", epochs=2, learning_rate=1e-4, seed=200),
        Run(**real, texts="judgments", method="lora", epochs=2, learning_rate=5e-4, seed=201),
        Run(**real, texts="comments", method="full", epochs=2, learning_rate=5e-5, seed=202),
    ]
    settings = (("full", 2, 5e-4), ("lora", 3, 2e-3), ("full", 1, 1e-3), ("full", 2, 5e-4))
    for j, (texts, (method, epochs, rate)) in enumerate(
        zip(("mails", "judgments", "comments", "reviews"), settings, strict=True)
    ):
        how = {"method": method, "epochs": epochs, "learning_rate": rate}
        found.append(Run(base="gpt2", texts=texts, **how, held_out=1000, seed=300 + j))
        found.append(Run(base="gpt_neox", texts=texts, **how, held_out=1000, seed=400 + j))
    return found


def scores_of(made: Made, weights: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
    """``[N]`` of each attack, the half each record is in, and the seconds of the learned one."""
    found = dict(run_attacks([ATTACKS.get(name) for name in COLUMNS], made.paths).scores)
    columns = [found[name] for name in COLUMNS]
    table, ref = made.tables()
    started = time.process_time()
    found["learned"] = learned.score_with(weights, table, ref)
    seconds = time.process_time() - started
    combined = combination(np.column_stack(columns), seed=0)
    with_learned = combination(np.column_stack([*columns, found["learned"]]), seed=0)
    found["combination"] = combined.scores(made.member)
    found["combination with learned"] = with_learned.scores(made.member)
    return found, combined.in_second, seconds


def auc(score: np.ndarray, member: np.ndarray) -> float:
    """Chance that a member scores higher, ties half."""
    held_out = np.sort(score[~member])
    below = np.searchsorted(held_out, score[member]) + np.searchsorted(held_out, score[member], side="right")
    return float(below.mean() / 2 / len(held_out))


def tpr(score: np.ndarray, member: np.ndarray, fpr: float) -> float:
    """Share of members strictly above the held-out score that at most ``fpr`` of the held-out exceed."""
    held_out = np.sort(score[~member])[::-1]
    return float((score[member] > held_out[int(fpr * len(held_out))]).mean())


def measured(score: np.ndarray, member: np.ndarray, second: np.ndarray | None, fpr: float | None) -> float:
    """AUC or TPR; over halves, each by itself, where ``second`` is given."""
    halves = [np.ones(len(member), dtype=bool)] if second is None else [second, ~second]
    what = auc if fpr is None else lambda s, m: tpr(s, m, fpr)
    return float(np.mean([what(score[half], member[half]) for half in halves]))


def resampled(member: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of one bootstrap draw, members and held-out apart."""
    return np.concatenate([rng.choice(rows, len(rows)) for rows in (np.flatnonzero(member), np.flatnonzero(~member))])


def evaluate(made: Made, weights: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures of one run, and its bootstrap draws of differences by ``what attack``."""
    found, second, seconds = scores_of(made, weights)
    member = made.member
    fprs = (None, 0.1, 0.01) if (~member).sum() >= 1000 else (None, 0.1)
    rng = np.random.default_rng(0)
    rows = [resampled(member, rng) for _ in range(DRAWS)]
    figures: dict[str, Any] = {}
    draws: dict[str, np.ndarray] = {}
    for fpr in fprs:
        what = "auc" if fpr is None else f"tpr@{fpr:g}"
        for name in ("learned", *BESIDE):
            halves = second if name.startswith("combination") else None
            figures[f"{what} {name}"] = measured(found[name], member, halves, fpr)
            draws[f"{what} {name}"] = np.array(
                [measured(found[name][r], member[r], None if halves is None else halves[r], fpr) for r in rows]
            )
    for key in [f"{w} {name}" for w in dict.fromkeys(k.split()[0] for k in draws) for name in BESIDE]:
        what = key.split()[0]
        draws[f"difference {key}"] = draws[f"{what} learned"] - draws[key]
    about = {"name": made.run.name, "members": int(member.sum()), "held_out": int((~member).sum())}
    return {**about, "learned_cpu_seconds": round(seconds, 3), **figures}, draws


def compared(key: str, figures: dict[str, float], draws: dict[str, np.ndarray]) -> list[float]:
    """The learned attack less another: value and 95 % interval."""
    what = key.split()[0]
    value = figures[f"{what} learned"] - figures[key]
    low, high = np.quantile(draws[f"difference {key}"], [0.025, 0.975])
    return [round(float(x), 4) for x in (value, low, high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=learned.WEIGHTS)
    parser.add_argument("--only", default="", help="runs of these bases only, by commas")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    about = json.loads(args.weights.with_suffix(".json").read_text(encoding="utf-8"))
    weights = learned.read_weights(args.weights, about["sha256"])
    chosen = [run for run in runs() if not args.only or run.base in args.only.split(",")]
    results, all_draws = [], []
    for run in chosen:
        figures, draws = evaluate(make(run, args.data, args.work), weights)
        figures["differences"] = {key: compared(key, figures, draws) for key in draws if f"difference {key}" in draws}
        results.append(figures)
        all_draws.append(draws)
        show(figures)
    groups = {"smollm2-135m": "smollm2", "gpt2": "gpt2", "gpt_neox": "gpt_neox", "all": ""}
    pooled = {}
    for group, prefix in groups.items():
        rows = [i for i, one in enumerate(results) if one["name"].startswith(prefix)]
        if rows:
            pooled[group] = pool([results[i] for i in rows], [all_draws[i] for i in rows])
            show({"name": f"mean of {len(rows)} ({group})", **pooled[group]})
    if args.json:
        body = {"weights": about["sha256"], "runs": results, "pooled": pooled}
        write_text(args.json, json.dumps({**body, "environment": environment()}, indent=1) + "\n")


def pool(results: list[dict[str, Any]], draws: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Means over runs."""
    keys = [key for key in results[0] if key.startswith(("auc ", "tpr@")) and all(key in one for one in results)]
    figures: dict[str, Any] = {key: float(np.mean([one[key] for one in results])) for key in keys}
    together = {key: np.mean([one[key] for one in draws], axis=0) for key in draws[0] if all(key in d for d in draws)}
    figures["differences"] = {key: compared(key, figures, together) for key in keys if f"difference {key}" in together}
    return figures


def show(figures: dict[str, Any]) -> None:
    """A run as a small table."""
    table = Table(title=figures["name"])
    for name in ("attack", "AUC", "learned less it", "TPR at 10 %", "learned less it"):
        table.add_column(name)
    for name in ("learned", *BESIDE):
        cells = []
        for what in ("auc", "tpr@0.1"):
            gap = figures["differences"].get(f"{what} {name}")
            cells += [
                f"{figures[f'{what} {name}']:.3f}",
                "" if gap is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*gap),
            ]
        table.add_row(name, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
