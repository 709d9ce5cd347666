# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/results/unlearning.md from what `unlearn_tofu.py` wrote, as Markdown.

The first table has a row for each run; the untouched and the retrained models come first. ``utility`` is TOFU's model
utility over the mean of the retrained models' (95 %, the same questions or people resampled in all of them),
``forget quality`` the p-value of TOFU's test against the first of them, ``loss against retrained`` the distance of the
forget rows' mean loss from that of the retrained models, with the prediction interval.

The second table has the AUCs after each treatment of runs with ``--robustness``.

    python benchmarks/unlearn_table.py tofu_lora.json --json benchmarks/results/unlearn_tofu_lora.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reticent.stats.user_bootstrap import owners
from reticent.unlearning.benchmarks.tofu import PARTS, forget_quality, harmonic_mean

Row = Mapping[str, Any]
RESAMPLES = 2000
COLUMNS = (
    "run",
    "step",
    "verdict",
    "AUC of the loss",
    "attacks like unseen",
    "loss against retrained",
    "right choices",
    "word for word in 1 / 16 / 1,024",
    "retain loss",
    "unseen loss",
    "utility",
    "forget quality",
    "minutes",
)


def number(run: Row, check: str, what: str, role: str = "after") -> list[float] | None:
    """The first number of that name: value, ends and n."""
    for row in run["measured"]:
        if (row["check"], row["role"]) == (check, role) and row["what"].startswith(what):
            return list(row["estimate"])
    return None


def interval(estimate: Sequence[float] | None, digits: int = 2) -> str:
    """A number with its interval."""
    if estimate is None:
        return "–"
    value, lo, hi = estimate[:3]
    return f"{value:.{digits}f} [{lo:.{digits}f}, {hi:.{digits}f}]"


def values(run: Row, check: str, names: Sequence[str], role: str, digits: int = 3) -> str:
    """Numbers without their intervals."""
    found = [number(run, check, name, role) for name in names]
    return " / ".join("–" if item is None else f"{item[0]:.{digits}f}" for item in found)


def likeness(run: Row) -> str:
    """How many attacks say "like unseen", of all, and the other words."""
    words = [row["word"] for row in run["measured"] if row["check"] == "membership" and row["role"] == "after"]
    words = [word for word in words if word]
    others = sorted({word for word in words if word != "like unseen"})
    return f"{words.count('like unseen')} of {len(words)}" + (f" ({', '.join(others)})" if others else "")


def row_of(name: str, run: Row, role: str, about: Callable[[str], tuple[str, str]], metrics: str) -> list[str]:
    """One row of the first table."""
    drawn = ("1 sample, word", "16 samples, word", "1,024 samples, word")
    utility, quality = about(metrics)
    return [
        name,
        str(run["stopped_at"]) if role == "after" and run["stopped_at"] is not None else "",
        run["verdict"]["status"].replace("_", " ") if role == "after" else "",
        interval(number(run, "membership", "loss", role)),
        likeness(run) if role == "after" else "",
        interval(number(run, "among_retrained", "mean loss of the request", role)),
        interval(number(run, "among_retrained", "right first choices of the request", role)),
        values(run, "extraction", drawn, role),
        values(run, "collateral", ("retain rows",), role, 2),
        values(run, "collateral", ("unseen rows",), role, 2),
        utility,
        quality,
        f"{sum(run['seconds'].values()) / 60:.0f}" if role == "after" else "",
    ]


def metrics_of(content: Row) -> Callable[[str], tuple[str, str]]:
    """Utility over that of the retrained models, and forget quality, by the name of a model's metrics."""
    models = content["models"]
    retrained = [models[name] for name in sorted(models) if name.endswith("-retrained")]

    def about(name: str) -> tuple[str, str]:
        model = models.get(name)
        if model is None or not retrained:
            return "–", "–"
        gap = forget_quality(model["truth_ratio"], retrained[0]["truth_ratio"], model["users"])
        return interval(utility_over(model, retrained)), f"{gap.p_value:.2g}"

    return about


def utility_over(model: Row, retrained: Sequence[Row]) -> tuple[float, float, float]:
    """Model utility over the mean of that of the retrained models, and its interval."""
    rng = np.random.default_rng(0)
    parts: dict[int, list[Any]] = {number: [] for number in range(1 + len(retrained))}
    for name, first in model["rows"].items():
        owner = owners(len(first["rouge"]), first["users"])
        drawn = rng.integers(owner.max() + 1, size=(RESAMPLES, owner.max() + 1))
        weight = np.stack([np.bincount(draw, minlength=owner.max() + 1)[owner] for draw in drawn])
        weight = np.concatenate([np.ones((1, len(owner)), dtype=np.int64), weight])
        for number, other in enumerate([model, *retrained]):
            for part in PARTS:
                value = np.array(other["rows"][name][part], dtype=np.float64)
                has = ~np.isnan(value)
                parts[number].append(weight[:, has] @ value[has] / weight[:, has].sum(axis=1))
    utility = [harmonic_mean(np.stack(columns)) for columns in parts.values()]
    ratio = utility[0] / np.mean(utility[1:], axis=0)
    lo, hi = np.quantile(ratio[1:], [0.025, 0.975])
    return float(ratio[0]), float(lo), float(hi)


def treatments(runs: Mapping[str, Row]) -> list[list[str]]:
    """Rows of the second table: treatment, then the AUC of each model in each run that was treated."""
    rows = []
    for name, run in runs.items():
        for treatment in dict.fromkeys(bar["treatment"] for bar in run["bars"]):
            bars = [bar for bar in run["bars"] if bar["treatment"] == treatment]
            cells = [
                "; ".join(interval(bar["auc"]) for bar in bars if bar["role"] == role) or "–"
                for role in ("after", "retrained", "before", "base")
            ]
            rows.append([name, treatment, *cells])
    return rows


def printed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="of unlearn_tofu.py")
    parser.add_argument("--json", type=Path, help="write the cells of the tables, and where they were measured")
    given = parser.parse_args()
    content = json.loads(given.file.read_text(encoding="utf-8"))
    runs = {name: run for name, run in content["runs"].items() if "refused" not in run}
    about, first = metrics_of(content), next(iter(runs.values()))
    rows = [row_of("untouched", first, "before", about, f"tuned-{content['tuning']}")]
    rows += [row_of("retrained (the first)", first, "retrained", about, "000-retrained")]
    rows += [row_of(name, run, "after", about, f"{name}-{content['tuning']}") for name, run in runs.items()]
    printed(COLUMNS, rows)
    treated = treatments(runs)
    if treated:
        printed(("run", "treatment", "unlearned", "retrained", "untouched", "base"), treated)
    refused = {name: run["refused"] for name, run in content["runs"].items() if "refused" in run}
    for name, why in refused.items():
        print(f"- {name}: {why}")
    if given.json:
        kept = {name: content[name] for name in ("tuning", "training", "knows", "environment")}
        settings = {name: run["settled"] for name, run in runs.items()}
        kept |= {"columns": COLUMNS, "rows": rows, "treated": treated, "refused": refused, "settings": settings}
        given.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
