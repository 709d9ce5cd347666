# SPDX-License-Identifier: Apache-2.0
"""Prediction before the harm: does a list made early in training name the records that are memorized in the end?

Fine-tunes a model on half of a made-up help desk's mails, a coin a mail, with the list of risks and the monitor
looking every few steps of the first epoch. Then prints how well early loss, PSMI and their mean rank foresaw the tenth
of the records whose loss fell most (a proxy: see docs/memorization.md), and the memorization profile by
difference-in-differences with its placebo test. One run: intervals are over records, or users, of this run.

    python benchmarks/risk_list.py --json benchmarks/results/risk_list.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reticent.core.atomic import write_text
from reticent.core.finding import Estimate
from reticent.core.manifest import environment
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.example import help_desk
from reticent.data.split import split
from reticent.models.load import load
from reticent.monitor.config import MonitorConfig
from reticent.monitor.monitor import Monitor
from reticent.monitor.panel import make_panel
from reticent.monitor.profile import profile_of
from reticent.monitor.risk_list import RiskList, foresight, losses, read_risks
from reticent.stats.profile import Effect, Profile
from reticent.train.trainer import TuneConfig, tune

LOOKS = 4
"""In the first epoch; each later epoch has as many."""


def train(args: argparse.Namespace, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Train, watched, into ``folder``; seconds of each part, and each member's final loss."""
    records = help_desk(users=args.users, mails_per_user=args.mails, seed=args.seed)
    coins = split(records, unit="record", seed=args.seed)
    members = [record for record, inside in zip(records, coins.member, strict=True) if inside]
    steps = -(-len(members) // args.batch_size)
    callbacks = [*watchers(args, folder, records, coins, members, every=max(1, steps // LOOKS))]
    config = TuneConfig(
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        max_tokens=args.max_tokens,
        seed=args.seed,
        resume=False,
    )
    started = time.perf_counter()
    out = tune(args.base, members, folder / "model", config, callbacks=callbacks)
    trained = time.perf_counter()
    loaded = load(str(out))
    final = losses(loaded.model, loaded.tokenizer, members, max_tokens=args.max_tokens)
    done = time.perf_counter()
    return {"training_and_looks": round(trained - started, 1), "final_losses": round(done - trained, 1)}, final


def watchers(
    args: argparse.Namespace,
    folder: Path,
    records: list[Record],
    coins: Membership,
    members: list[Record],
    *,
    every: int,
) -> list[Any]:
    """The list of risks, and the monitor with a panel of ``args.panel`` records a side."""
    tokenizer = load(args.base).tokenizer
    panel = make_panel(records, coins, size=args.panel)
    watch = MonitorConfig(monitor=True, monitor_every=every)
    risk = RiskList(
        records=members, tokenizer=tokenizer, path=folder / "risk.jsonl", at=args.at, max_tokens=args.max_tokens
    )
    return [risk, Monitor(panel, tokenizer, folder, config=watch, max_tokens=args.max_tokens)]


def plain(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate as JSON has it."""
    return None if estimate is None else asdict(estimate)


def told(effect: Effect | None) -> dict[str, Any] | None:
    return None if effect is None else {"did": plain(effect.did), "difference": plain(effect.difference)}


def profile_figures(profile: Profile) -> dict[str, Any]:
    """The profile without what is only drawn."""
    placebo = profile.placebo
    return {
        "instantaneous": told(profile.instantaneous),
        "persistent": told(profile.persistent),
        "residual": told(profile.residual),
        "placebo": None
        if placebo is None
        else {"p_value": placebo.p_value, "mean": plain(placebo.mean), "effects": placebo.effects},
        "cohorts": [
            {
                "first": cohort.first,
                "last": cohort.last,
                "records": cohort.records,
                "taus": [
                    {"step": tau.step, "event": tau.event, "did": plain(tau.effect.did)}
                    for tau in (*cohort.before, *cohort.after)
                ],
            }
            for cohort in profile.cohorts
        ],
        "treated": profile.treated,
        "control": profile.control,
        "refused": profile.refused,
    }


def show(figures: dict[str, Any]) -> None:
    """Both tables, for a person."""
    print(f"{'score':<12} {'TPR':>22} {'FPR':>22} {'FPR at TPR 75 %':>22} {'AUC':>22}")
    for name, row in figures["foresight"].items():
        cells = [row[key] for key in ("tpr", "fpr", "fpr_at_recall", "auc")]
        said = ["too few" if one is None else f"{one['value']:.3f} [{one['lo']:.3f}, {one['hi']:.3f}]" for one in cells]
        print(f"{name:<12} " + " ".join(f"{text:>22}" for text in said))
    profile = figures["profile"]
    for name in ("instantaneous", "persistent", "residual"):
        if profile[name] is not None:
            one, other = profile[name]["did"], profile[name]["difference"]
            print(
                f"{name:<14} {one['value']:+.4f} [{one['lo']:+.4f}, {one['hi']:+.4f}] {one['unit']}; "
                f"plain difference {other['value']:+.4f} [{other['lo']:+.4f}, {other['hi']:+.4f}]"
            )
    if profile["placebo"] is not None:
        mean = profile["placebo"]["mean"]
        print(
            f"placebo        {mean['value']:+.4f} [{mean['lo']:+.4f}, {mean['hi']:+.4f}], "
            f"p = {profile['placebo']['p_value']:.3f} over {profile['placebo']['effects']} effects"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--users", type=int, default=80)
    parser.add_argument("--mails", type=int, default=12)
    parser.add_argument("--panel", type=int, default=60, help="records a side that are looked at")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--at", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch; all cores if left out")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds, final = train(args, folder)
        rows = read_risks(folder / "risk.jsonl")
        found = foresight(rows, final)
        alone = foresight(rows, final, cluster=None)
        profile = profile_of(folder / "panel.parquet")
        watch = json.loads((folder / "monitor.json").read_text())
    keys = ("tpr", "fpr", "fpr_at_recall", "auc")
    falls = np.array([row.loss_before - final[row.id] for row in rows])
    figures = {
        "settings": {key: value for key, value in vars(args).items() if key != "json"},
        "records": len(rows),
        "list_made_at": {"step": rows[0].step, "epoch": rows[0].epoch},
        "mean_loss": {
            "before": float(np.mean([row.loss_before for row in rows])),
            "at_the_list": float(np.mean([row.loss for row in rows])),
            "final": float(np.mean(list(final.values()))),
        },
        "fall": {"mean": float(falls.mean()), "tenth_from": float(np.quantile(falls, 0.9))},
        "foresight": {name: {key: plain(getattr(one, key)) for key in keys} for name, one in found.items()},
        "foresight_records_independent": {
            name: {key: plain(getattr(one, key)) for key in keys} for name, one in alone.items()
        },
        "profile": profile_figures(profile),
        "monitor_overhead": watch["overhead"],
        "seconds": seconds,
        "hardware": environment(),
    }
    if args.json:
        write_text(args.json, json.dumps(figures, indent=2) + "\n")
    show(figures)


if __name__ == "__main__":
    main()
