# SPDX-License-Identifier: Apache-2.0
"""The transferred attack, learned on k = 2, 4 and 8 small fine-tunes, beside EZ-MIA and WBC on models it never saw.

Eight small fine-tunes (tiny Llama and Qwen3, public texts) teach. They are cut into four pairs, two fours and one
eight; each part gives coefficients of its own. Fine-tunes of other architectures (tiny GPT-2 and GPT-NeoX, with
``--real`` SmolLM2-135M too) on other texts are attacked: no base, no text and no model is on both sides, which the
script checks by `ShadowModelInfo.shares_with`. All attacks see the same records. A figure of k fine-tunes is the mean
over the parts of size k, and its difference to another attack has a 95 % interval by a paired bootstrap of the attacked
records, members and held-out ones apart; the choice of the fine-tunes that taught is not in that interval, so the
figures of the parts are given too. "all" is the mean over attacked models. Killed and called again it goes on.

    python benchmarks/transferred_attack.py --data ../shared/data --work runs/transferred --json FILE
    python benchmarks/transferred_attack.py --data ../shared/data --work runs/transferred --tiny
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from learned_attack import auc, resampled, tpr
from learned_attack_runs import Made, Run, make
from rich.table import Table

from reticent.attacks import ATTACKS, run_attacks
from reticent.attacks.membership.learn_transferred import KnownFineTune, learn
from reticent.attacks.membership.transferred import ShadowModelInfo
from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.progress import console

BESIDE = ("ez_mia", "wbc")
SIZES = (2, 4, 8)
DRAWS = 1000


def teachers() -> list[Run]:
    """The fine-tunes that teach: neighbours differ in base and texts, so that each pair has both bases."""
    settings = (
        *(("wikitext", "full", 3, 1e-3), ("speeches", "lora", 3, 2e-3), ("plays", "full", 1, 1e-3)),
        *(("authors", "full", 2, 5e-4), ("forms", "lora", 2, 2e-3), ("wikitext", "full", 1, 5e-4)),
        *(("speeches", "full", 2, 1e-3), ("plays", "lora", 4, 2e-3)),
    )
    return [
        Run(base=("llama", "qwen3")[i % 2], texts=texts, method=method, epochs=epochs, learning_rate=rate, seed=500 + i)
        for i, (texts, method, epochs, rate) in enumerate(settings)
    ]


def attacked(real: bool) -> list[Run]:
    """The fine-tunes that are attacked."""
    settings = (("mails", "full", 2, 5e-4), ("judgments", "lora", 3, 2e-3), ("comments", "full", 1, 1e-3))
    found = [
        Run(base=base, texts=texts, method=method, epochs=epochs, learning_rate=rate, held_out=1000, seed=600 + i)
        for i, ((texts, method, epochs, rate), base) in enumerate(product(settings, ("gpt2", "gpt_neox")))
    ]
    if real:
        shape = {"base": "smollm2-135m", "members": 300, "held_out": 500, "max_tokens": 64, "epochs": 2}
        found.append(Run(**shape, texts="mails", method="full", learning_rate=1e-4, seed=650))
        found.append(Run(**shape, texts="judgments", method="lora", learning_rate=5e-4, seed=651))
    return found


def tiny(run: Run) -> Run:
    """The same in seconds, to see that the script runs: its figures say nothing."""
    return replace(run, members=24, held_out=24, max_tokens=24, minutes=0.02)


def info(run: Run) -> ShadowModelInfo:
    """The things that a run may not share with another: named by what made it."""
    return ShadowModelInfo(name=run.name, model=run.name, base=run.base, data=run.texts, members=0, held_out=0)


def taught_by(made: Made) -> KnownFineTune:
    table, ref = made.tables()
    about = info(made.run)
    names = {"name": about.name, "model": about.model, "base": about.base, "data": about.data}
    return KnownFineTune.of(table, ref, made.member, names)


def refuse_shared(teaching: list[Run], judged: list[Run]) -> None:
    """Nothing stands on both sides."""
    for one, other in product(teaching, judged):
        if info(one).shares_with(info(other)):
            raise SystemExit(f"{one.name} and {other.name} share a model, a base or texts")


def parts(fine_tunes: list[KnownFineTune]) -> dict[int, list[list[KnownFineTune]]]:
    """By size, the parts that the fine-tunes are cut into, without overlap within a size."""
    sizes = [size for size in SIZES if size <= len(fine_tunes)]
    return {k: [fine_tunes[i : i + k] for i in range(0, len(fine_tunes) - k + 1, k)] for k in sizes}


def write_coefficients(fine_tunes: list[KnownFineTune], folder: Path) -> dict[int, list[Path]]:
    """Coefficients of every part, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[int, list[Path]] = {}
    for k, groups in parts(fine_tunes).items():
        found[k] = [folder / f"k{k}.{number}.json" for number in range(len(groups))]
        for group, path in zip(groups, found[k], strict=True):
            learn(group).write(path)
    return found


def scores_of(made: Made, files: dict[int, list[Path]]) -> dict[str, list[np.ndarray]]:
    """By attack its scores ``[N]``, one array for each part; others than the transferred ones have one."""
    found = {
        name: [column] for name, column in run_attacks([ATTACKS.get(x) for x in BESIDE], made.paths).scores.items()
    }
    for k, paths in files.items():
        entries = [ATTACKS.get("transferred").with_params(coefficients=str(path)) for path in paths]
        found[f"transferred, k = {k}"] = [run_attacks([entry], made.paths).scores["transferred"] for entry in entries]
    return found


def measures(held_out: int) -> dict[str, float | None]:
    """Figures by name, with the false positive rate that each is at; 1 % only where so many texts can show it."""
    return {"auc": None, "tpr@0.1": 0.1} | ({"tpr@0.01": 0.01} if held_out >= 1000 else {})


def measured(scores: list[np.ndarray], member: np.ndarray, fpr: float | None) -> list[float]:
    """The figure of each part."""
    return [auc(score, member) if fpr is None else tpr(score, member, fpr) for score in scores]


def evaluate(made: Made, files: dict[int, list[Path]]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures of one attacked model, and their bootstrap draws by ``figure attack``."""
    member, found = made.member, scores_of(made, files)
    rng = np.random.default_rng(0)
    rows = [resampled(member, rng) for _ in range(DRAWS)]
    figures: dict[str, Any] = {"name": made.run.name, "members": int(member.sum()), "held_out": int((~member).sum())}
    draws: dict[str, np.ndarray] = {}
    for what, fpr in measures(figures["held_out"]).items():
        for name, scores in found.items():
            each = measured(scores, member, fpr)
            figures[f"{what} {name}"] = float(np.mean(each))
            figures.setdefault("parts", {})[f"{what} {name}"] = [round(value, 4) for value in each]
            draws[f"{what} {name}"] = np.array(
                [np.mean(measured([score[r] for score in scores], member[r], fpr)) for r in rows]
            )
    return figures, draws


def differences(figures: dict[str, Any], draws: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Each k less each published attack: value and 95 % interval, by ``figure k less attack``."""
    found = {}
    for key in draws:
        what, _, name = key.partition(" ")
        for other in BESIDE if name.startswith("transferred") else ():
            gap = draws[key] - draws[f"{what} {other}"]
            value = figures[key] - figures[f"{what} {other}"]
            ends = (value, *np.quantile(gap, [0.025, 0.975]))
            found[f"{key} less {other}"] = [round(float(end), 4) for end in ends]
    return found


def pool(results: list[dict[str, Any]], draws: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Means over attacked models, each resampled by itself."""
    keys = [key for key in draws[0] if all(key in one for one in draws)]
    figures: dict[str, Any] = {key: float(np.mean([one[key] for one in results])) for key in keys}
    together = {key: np.mean([one[key] for one in draws], axis=0) for key in keys}
    return {"name": "all", **figures, "differences": differences(figures, together)}


def show(figures: dict[str, Any]) -> None:
    """One attacked model as a small table."""
    table = Table(title=figures["name"])
    for name in ("attack", "AUC", "less EZ-MIA", "less WBC", "TPR at 10 %"):
        table.add_column(name)
    for name in [key.removeprefix("auc ") for key in figures if key.startswith("auc ")]:
        gaps = [figures["differences"].get(f"auc {name} less {other}") for other in BESIDE]
        cells = ["" if gap is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*gap) for gap in gaps]
        table.add_row(name, f"{figures[f'auc {name}']:.3f}", *cells, f"{figures[f'tpr@0.1 {name}']:.3f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", action="store_true", help="attack fine-tunes of SmolLM2-135M too")
    parser.add_argument("--tiny", action="store_true", help="two teachers, one attacked model, seconds: a trial run")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    teaching, judged, work = teachers(), attacked(args.real), args.work
    if args.tiny:
        teaching, judged, work = [*map(tiny, teaching[:2])], [tiny(judged[0])], args.work / "tiny"
    refuse_shared(teaching, judged)
    files = write_coefficients([taught_by(make(run, args.data, work)) for run in teaching], work / "coefficients")
    results, all_draws = [], []
    for run in judged:
        figures, draws = evaluate(make(run, args.data, work), files)
        results.append({**figures, "differences": differences(figures, draws)})
        all_draws.append(draws)
        show(results[-1])
    pooled = pool(results, all_draws)
    show(pooled)
    if args.json:
        learned_on = {str(k): [json.loads(path.read_text("utf-8")) for path in paths] for k, paths in files.items()}
        body = {"tiny": args.tiny, "coefficients": learned_on, "attacked": results, "all": pooled}
        write_text(args.json, json.dumps({**body, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
