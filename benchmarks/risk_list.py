# SPDX-License-Identifier: Apache-2.0
"""Prediction before the harm: does a list made early in training name the records that are memorized in the end?

Fine-tunes a model on half of a made-up help desk's mails, a coin a mail, with the list of risks and the monitor
looking four times an epoch. Then prints how well early loss, PSMI and their mean rank foresaw the tenth of the records
whose loss fell most, which is a proxy, and the memorization profile by difference-in-differences with its placebo test.
``--truth`` adds a second training on the mails that were held out, and holds the list against counterfactual
memorization by the two runs. Intervals are over users of this one run.

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
from reticent.monitor.risk_list import RecordRisk, RiskList, falls, foresight, losses, read_risks
from reticent.stats.difference_in_differences import Effect, Profile
from reticent.stats.memorization import counterfactual_memorization
from reticent.train.trainer import TuneConfig, tune

LOOKS = 4
"""In the first epoch; each later epoch has as many."""


def train(args: argparse.Namespace, folder: Path) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Train, watched, into ``folder``; seconds of each part, each member's final loss, and with ``args.truth`` how much
    each member was memorized."""
    records = help_desk(users=args.users, mails_per_user=args.mails, seed=args.seed)
    coins = split(records, unit="record", seed=args.seed)
    members = [record for record, inside in zip(records, coins.member, strict=True) if inside]
    others = [record for record, inside in zip(records, coins.member, strict=True) if not inside]
    steps = -(-len(members) // args.batch_size)
    started = time.perf_counter()
    final = one_run(
        args, members, folder / "model", members, watchers(args, folder, records, coins, members, every=steps // LOOKS)
    )
    seconds = {"watched_training": round(time.perf_counter() - started, 1)}
    if not args.truth:
        return seconds, final, {}
    started = time.perf_counter()
    without = one_run(args, others, folder / "other", members, [])
    seconds["second_training"] = round(time.perf_counter() - started, 1)
    ids = list(final)
    nll = np.array([[run[record] for record in ids] for run in (final, without)])
    member = np.array([[True], [False]]) & np.ones(nll.shape, dtype=bool)
    truth = counterfactual_memorization(nll, member).value
    return seconds, final, dict(zip(ids, truth.tolist(), strict=True))


def one_run(
    args: argparse.Namespace, trained: list[Record], out: Path, scored: list[Record], callbacks: list[Any]
) -> dict[str, float]:
    """Train on some records; the losses of others, or the same, in the end."""
    config = TuneConfig(
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        max_tokens=args.max_tokens,
        seed=args.seed,
        resume=False,
    )
    loaded = load(str(tune(args.base, trained, out, config, callbacks=callbacks)))
    return losses(loaded.model, loaded.tokenizer, scored, max_tokens=args.max_tokens)


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


def table(rows: list[RecordRisk], memorized: dict[str, float], **how: Any) -> dict[str, Any]:
    """Foresight of each score, as JSON has it."""
    found = foresight(rows, memorized, **how)
    keys = ("tpr", "fpr", "fpr_at_recall", "auc")
    return {name: {key: plain(getattr(one, key)) for key in keys} for name, one in found.items()}


def summary(values: dict[str, float]) -> dict[str, float]:
    """Mean, and from where on a record is among the tenth."""
    array = np.array(list(values.values()))
    return {"mean": float(array.mean()), "tenth_from": float(np.quantile(array, 0.9))}


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
    """The tables, for a person."""
    for title, key in (
        ("fall of the loss (proxy)", "foresight"),
        ("counterfactual memorization, two runs", "foresight_of_counterfactual"),
    ):
        if figures[key]:
            print(title)
            print(f"{'score':<12} {'TPR':>22} {'FPR':>22} {'FPR at TPR 75 %':>22} {'AUC':>22}")
            for name, row in figures[key].items():
                cells = [row[column] for column in ("tpr", "fpr", "fpr_at_recall", "auc")]
                said = [f"{one['value']:.3f} [{one['lo']:.3f}, {one['hi']:.3f}]" if one else "too few" for one in cells]
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
    parser.add_argument(
        "--truth",
        action="store_true",
        help="also train on the held-out records, to know what was memorized; twice the time",
    )
    parser.add_argument("--threads", type=int, help="of torch; all cores if left out")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds, final, truth = train(args, folder)
        rows = read_risks(folder / "risk.jsonl")
        profile = profile_of(folder / "panel.parquet")
        watch = json.loads((folder / "monitor.json").read_text())
    fall = falls(rows, final)
    figures = {
        "settings": {key: value for key, value in vars(args).items() if key != "json"},
        "records": len(rows),
        "list_made_at": {"step": rows[0].step, "epoch": rows[0].epoch},
        "mean_loss": {
            "before": float(np.mean([row.loss_before for row in rows])),
            "at_the_list": float(np.mean([row.loss for row in rows])),
            "final": float(np.mean(list(final.values()))),
        },
        "fall": summary(fall),
        "foresight": table(rows, fall),
        "foresight_records_independent": table(rows, fall, cluster=None),
        "counterfactual": summary(truth) if truth else None,
        "foresight_of_counterfactual": table(rows, truth) if truth else None,
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
