# SPDX-License-Identifier: Apache-2.0
"""How often must a secret stand in the training data before it can be pulled out? The demo's help desk, with secrets.

    python examples/planted_secrets.py --method full --out runs/secrets_full
    python examples/planted_secrets.py --method lora --learning-rate 1e-3 --out runs/secrets_lora

Secrets are planted by coins once, 4 or 16 times. Then the tuned model and its base are asked for them, and for secrets
that were never planted. Prints three tables: how many come out, how many samples an attacker needs, and exposure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from reticent.auditing.config import AuditConfig
from reticent.core.finding import Estimate
from reticent.core.results import ExtractionRow, Results
from reticent.data.example import help_desk
from reticent.train.config import TuneConfig
from reticent.workflows.audit import audit
from reticent.workflows.demo import MAILS_PER_USER, MODEL, SPLIT, USERS
from reticent.workflows.tune import CanaryConfig, tune

ATTACKS = ("discoverable", "discoverable_half", "near_verbatim", "probabilistic_np", "prompt_prefix")
"""What is printed; the report has all of it."""
console = Console(width=110)
QUERIES = (1, 10, 100, 1_000, 10_000, 1_000_000)


def pulled_out(results: Results) -> Table:
    """Shares of the planted secrets, and of those that never were, from the model and its base."""
    table = Table("attack", "planted", "secrets", "model", "base", "model - never planted", box=None)
    for row in _of_secrets(results):
        if row.attack in ATTACKS:
            shown = (_share(found) for found in (row.target, row.base, row.above_control))
            table.add_row(row.attack, row.group.removeprefix("planted "), str(row.n), *shown)
    return table


def samples_needed(results: Results) -> Table:
    """Shares that come up with probability one half or more in so many samples; in brackets, from the base."""
    table = Table("planted", "secrets", *(f"{queries:,} samples" for queries in QUERIES), box=None)
    planted = {row.group for row in _of_secrets(results)}
    for curve in results.extraction.curves if results.extraction else ():
        if curve.group in planted:
            at = [curve.queries.index(float(queries)) for queries in QUERIES]
            table.add_row(curve.group, str(curve.n), *(f"{curve.target[i]:.0%} ({curve.base[i]:.0%})" for i in at))
    return table


def exposure(results: Results) -> Table:
    """Bits of exposure by how often a secret was planted."""
    table = Table("planted", "secrets", "median bits by rank", "at most", "by a fitted curve", box=None)
    for tier in results.exposure:
        table.add_row(tier.tier, str(len(tier.each)), _bits(tier.bits), f"{tier.ceiling:.1f}", _bits(tier.fitted))
    return table


def _bits(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.1f} [{found.lo:.1f}, {found.hi:.1f}]"


def _of_secrets(results: Results) -> list[ExtractionRow]:
    rows = results.extraction.rows if results.extraction is not None else ()
    return [row for row in rows if "planted" in row.group]


def _share(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.0%} [{found.lo:.0%}, {found.hi:.0%}]"


def main() -> None:
    """Tune, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/secrets"), help="the run folder")
    parser.add_argument("--model", default=MODEL, help="what is tuned")
    parser.add_argument("--method", default="full")
    parser.add_argument("--learning-rate", type=float, help="left out, the method's own")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--secrets", type=int, default=240, help="how many get a coin each")
    parser.add_argument("--controls", type=int, default=250, help="how many more are never planted")
    parser.add_argument("--users", type=int, default=USERS, help=f"people who write, {MAILS_PER_USER} mails each")
    given = parser.parse_args()
    run = tune(
        help_desk(users=given.users, mails_per_user=MAILS_PER_USER, seed=0),
        base=given.model,
        out=given.out,
        title=f"Planted secrets, {given.method}",
        split_config=SPLIT,
        canary_config=CanaryConfig(canaries=given.secrets, canary_kind="passphrase", canary_controls=given.controls),
        tune_config=TuneConfig(method=given.method, epochs=given.epochs, learning_rate=given.learning_rate),
    )
    results = audit(run, AuditConfig(attacks="standard", extraction=True))
    for table in (pulled_out(results), samples_needed(results), exposure(results)):
        console.print(table, highlight=False)
        console.print()
    console.print(f"report: {run.report}", highlight=False)


if __name__ == "__main__":
    main()
