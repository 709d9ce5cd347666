# SPDX-License-Identifier: Apache-2.0
"""How often must a secret stand in the training data before it can be pulled out? The demo's help desk, with secrets.

    python examples/planted_secrets.py --method full --out runs/secrets_full
    python examples/planted_secrets.py --method lora --learning-rate 1e-3 --out runs/secrets_lora

Secrets are planted by coins once, 4 or 16 times. Then the tuned model and its base are asked for them, and for secrets
that were never planted. Prints how many come out, how many samples an attacker needs, and exposure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import reticent
from reticent.data import help_desk

ATTACKS = ("discoverable", "discoverable_half", "near_verbatim", "probabilistic_np", "prompt_prefix")
"""What is printed; the report has all of it."""
QUERIES = (1, 10, 100, 1_000, 10_000, 1_000_000)


def show(results: reticent.Results) -> None:
    """Three tables: shares that come out, shares by number of samples (in brackets, of the base), bits of exposure."""
    rows = [row for row in results.extraction.rows if "planted" in row.group]
    for row in rows:
        if row.attack in ATTACKS:
            print(f"{row.attack:18} {row.group:24} {percent(row.target)} base {percent(row.base)}")
    groups = {row.group for row in rows}
    print(f"\n{'':24} " + " ".join(f"{f'{queries:,} samples':>18}" for queries in QUERIES))
    for curve in results.extraction.curves:
        if curve.group in groups:
            places = [curve.queries.index(float(queries)) for queries in QUERIES]
            cells = (f"{curve.target[place]:.0%} ({curve.base[place]:.0%})" for place in places)
            print(f"{curve.group:24} " + " ".join(f"{cell:>18}" for cell in cells))
    for tier in results.exposure:
        print(
            f"{tier.tier:24} {len(tier.each)} secrets, median bits {tier.bits.value:.1f} of at most {tier.ceiling:.1f}"
        )


def percent(estimate: reticent.Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.value:.0%} [{estimate.lo:.0%}, {estimate.hi:.0%}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="Plant secrets, tune, try to get them out.")
    parser.add_argument("--model", default="smollm2-135m", help="folder, hub id or catalogue name of the base")
    parser.add_argument("--out", type=Path, default=Path("runs/secrets"))
    parser.add_argument("--method", default="full")
    parser.add_argument("--learning-rate", type=float, help="left out, the method's own")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--secrets", type=int, default=240, help="how many get a coin each")
    parser.add_argument("--controls", type=int, default=250, help="how many more are never planted")
    parser.add_argument("--users", type=int, default=160, help="people who write, six mails each")
    given = parser.parse_args()
    run = reticent.tune(
        help_desk(users=given.users, mails_per_user=6),
        base=given.model,
        out=given.out,
        title=f"Planted secrets, {given.method}",
        split_config=reticent.SplitConfig(split_unit="user", split_seed=1),
        canary_config=reticent.CanaryConfig(
            canaries=given.secrets, canary_kind="passphrase", canary_controls=given.controls
        ),
        tune_config=reticent.TuneConfig(method=given.method, epochs=given.epochs, learning_rate=given.learning_rate),
    )
    show(reticent.audit(run, reticent.AuditConfig(attacks="standard", extraction=True)))
    print(f"report: {run.report}")


if __name__ == "__main__":
    main()
