# SPDX-License-Identifier: Apache-2.0
"""Fine-tune on a made-up help desk by recorded coins, audit the outcome, and say who is exposed.

    python examples/audit_your_run.py --out runs/first

Half of the users get trained on, by a coin each. So what the attacks find is about the training, not about how the data
were chosen. For data of your own put `reticent.read("mails.jsonl", text_field="body", user_field="sender").records` in
the place of `help_desk`.
"""

from __future__ import annotations

import argparse

import reticent
from reticent.data import help_desk


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune and audit.")
    parser.add_argument("--model", default="smollm2-135m", help="folder, hub id or catalogue name of the base")
    parser.add_argument("--out", default="runs/first")
    parser.add_argument("--users", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()

    run = reticent.tune(
        help_desk(users=given.users, mails_per_user=6),
        base=given.model,
        out=given.out,
        split_config=reticent.SplitConfig(split_unit="user"),
        tune_config=reticent.TuneConfig(epochs=given.epochs, learning_rate=1e-4),
    )
    results = reticent.audit(run, reticent.AuditConfig(attacks="standard"))

    print(results.verdict.headline)
    for finding in results.findings:
        print(f"{finding.severity:8} {finding.level:8} {finding.attack:14} {finding.metric:10} {finding.estimate}")
    for power in results.power:
        print(f"an effect of {power.smallest:.3f} ({power.metric}, {power.level}s) would have been seen")
    print(f"most exposed: {', '.join(f'{unit.level} {unit.unit}' for unit in results.exposed[:3])}")
    print(f"report: {run.report}")


if __name__ == "__main__":
    main()
