# SPDX-License-Identifier: Apache-2.0
"""Does a poisoned base make a later fine-tune leak more, what undoes it, and who else is hit?

``--targets`` ends of made-up mails of at most ``--tokens`` tokens, one a person, are learned by heart by the base
(`redteam.privacy_backdoor.pre_memorize`, one pass over ``--auxiliary`` other texts). Then victims are tuned from the
clean and from the poisoned base on the targets whose coin says so, and on as many of ``--others`` texts that nobody
targeted. Victims differ in the base alone: the same coins, order and seeds.

``attacks``      by method and seed: AUC, and TPR at ``fpr``, of the loss and of EZ-MIA on the targets from either base,
                 with the *difference* paired over records. TPR needs 10 / ``fpr`` held-out targets, else null.
``bystanders``   the same on the texts that nobody targeted.
``rewarmed``     victims of the poisoned base after `repair.rewarm.rewarm` on ``--warm`` clean texts.
``private``      victims of the poisoned base at ε = ``--epsilon``.
``warm_up``      victims of a base that was only warmed up on other texts of the kind (untargeted, after PreCurious).
``utility``      held-out loss of each victim on texts that nobody trained on.

    python benchmarks/privacy_backdoor.py --json benchmarks/results/privacy_backdoor.json
    python benchmarks/privacy_backdoor.py --tiny --work runs/tiny --json tiny.json
    python benchmarks/privacy_backdoor.py --targets 400 --others 0 --auxiliary 1200 --warm 200 --seeds 0 \\
        --methods full --victim_epochs 2 --variants rewarmed --fpr 0.06 --json small.json

The last is for one core and half an hour. What is done already is read from ``--work``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from backdoor_runs import (
    ATTACKS,
    Sizes,
    add_sizes,
    attack_scores,
    base_of,
    coins,
    compared,
    leak,
    short_texts,
    sizes_of,
    stage,
    utility,
    victim,
)

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.record import Record
from reticent.redteam.privacy_backdoor import pre_memorize, warm_up
from reticent.repair.rewarm import rewarm
from reticent.train.config import TuneConfig

VARIANTS = ("rewarmed", "private", "warm_up")
HELD_OUT = 64


def main() -> None:
    given = arguments()
    sizes = sizes_of(given)
    texts = Texts(given, sizes)
    result: dict[str, Any] = {"attacks": [], "bystanders": [], **{name: [] for name in given.variants}, "utility": []}
    for method in given.methods:
        for seed in given.seeds:
            clean = run(given, sizes, texts, "clean", texts.base, method, seed)
            others = {"attacks": "poisoned", **{name: name for name in given.variants}}
            for part, name in others.items():
                base = texts.of_variant(name)
                epsilon = given.epsilon if name == "private" else None
                after = run(given, sizes, texts, name, base, method, seed, epsilon=epsilon)
                result[part] += rows(given, texts, clean, after, method, seed, targets=True)
                if part == "attacks" and sizes.others:
                    result["bystanders"] += rows(given, texts, clean, after, method, seed, targets=False)
                result["utility"].append({"method": method, "seed": seed, "base": name, **after["utility"]})
            result["utility"].append({"method": method, "seed": seed, "base": "clean", **clean["utility"]})
            result |= {"sizes": vars(sizes), "fpr": given.fpr, "environment": environment()}
            given.json.parent.mkdir(parents=True, exist_ok=True)
            write_text(given.json, json.dumps(result, indent=2) + "\n", private=False)
    for row in result["attacks"]:
        print(row["method"], row["seed"], row["attack"], *(f"{name} {shown(row[name])}" for name in ("auc", "tpr")))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser)
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--fpr", type=float, default=0.01)
    return parser.parse_args()


class Texts:
    """Texts of a run, and its bases."""

    def __init__(self, given: argparse.Namespace, sizes: Sizes) -> None:
        self.given, self.sizes = given, sizes
        self.base = base_of(given, sizes)
        self.targets = self.drawn(sizes.targets, 1)
        self.others = self.drawn(sizes.others, 2) if sizes.others else []
        self.auxiliary = self.drawn(sizes.auxiliary, 3)
        self.warm = self.drawn(sizes.warm, 4)
        self.held_out = self.drawn(HELD_OUT, 5)

    def drawn(self, count: int, seed: int) -> list[Record]:
        return short_texts(count, seed=seed, base=self.base, tokens=self.sizes.tokens)

    @property
    def config(self) -> TuneConfig:
        """Of the attacker."""
        sizes = self.sizes
        return TuneConfig(
            epochs=1, learning_rate=sizes.poison_rate, batch_size=sizes.batch, max_tokens=sizes.tokens + 2, warmup=0.1
        )

    def of_variant(self, name: str) -> str:
        """The base that a victim of that variant trusts."""
        work = self.given.work
        if name == "warm_up":
            return str(warm_up(self.base, self.auxiliary, work / "warm_up", self.config))
        poisoned = str(pre_memorize(self.base, self.targets, self.auxiliary, work / "poisoned", self.config))
        return str(rewarm(poisoned, self.warm, work / "rewarmed", self.config)) if name == "rewarmed" else poisoned


def run(
    given: argparse.Namespace,
    sizes: Sizes,
    texts: Texts,
    name: str,
    base: str,
    method: str,
    seed: int,
    *,
    epsilon: float | None = None,
) -> dict[str, Any]:
    """Tune one victim and score all texts with coins."""
    title = f"victim-{name}-{method}-{seed}"

    def make() -> dict[str, Any]:
        private = [*texts.targets, *texts.others]
        members = [record for record, coin in zip(private, coins(len(private), seed), strict=True) if coin]
        folder = victim(
            base, members, texts.held_out, given.work / title, sizes, method=method, seed=seed, epsilon=epsilon
        )
        return {"scores": attack_scores(folder, base, private, given.work / "cache")}

    outcome: dict[str, Any] = stage(given.work, title, make)
    return outcome | {"utility": utility(given.work / title)}


def rows(
    given: argparse.Namespace,
    texts: Texts,
    clean: dict[str, Any],
    after: dict[str, Any],
    method: str,
    seed: int,
    *,
    targets: bool,
) -> list[dict[str, Any]]:
    """One row for each attack."""
    count = len(texts.targets)
    member = coins(count + len(texts.others), seed)
    part = slice(0, count) if targets else slice(count, None)

    def of(outcome: dict[str, Any], attack: str) -> dict[str, Any]:
        scores: Sequence[float] = outcome["scores"][attack][part]
        return leak(scores, np.asarray(member[part]), given.fpr)

    return [
        {"method": method, "seed": seed, "attack": attack, **compared(of(clean, attack), of(after, attack))}
        for attack in ATTACKS
    ]


def shown(row: dict[str, Any] | None) -> str:
    if row is None:
        return "too few"
    apart = row["difference"]
    return f"{row['clean']['value']:.3f} -> {row['poisoned']['value']:.3f} ({apart['lo']:+.3f} to {apart['hi']:+.3f})"


if __name__ == "__main__":
    main()
