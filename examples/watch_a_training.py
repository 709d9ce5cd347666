# SPDX-License-Identifier: Apache-2.0
"""Watch a training while it runs, end it where only memorization goes on, and list who is about to be memorized.

    python examples/watch_a_training.py --out runs/watched

The monitor looks at a panel of members and held-out records after each epoch; what it sees is in `monitor.json`. In a
Trainer of your own: `trainer.add_callback(reticent.Monitor(reticent.make_panel(records, membership), tokenizer))`.
"""

from __future__ import annotations

import argparse

import reticent
from reticent.data import help_desk
from reticent.monitor import read_risks


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch a training, stop it in time.")
    parser.add_argument("--model", default="smollm2-135m", help="folder, hub id or catalogue name of the base")
    parser.add_argument("--out", default="runs/watched")
    parser.add_argument("--users", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()

    run = reticent.tune(
        help_desk(users=given.users, mails_per_user=4),
        base=given.model,
        out=given.out,
        tune_config=reticent.TuneConfig(epochs=given.epochs, learning_rate=1e-4),
        monitor=reticent.MonitorConfig(monitor=True, stop_at="memorization", risk_list=True),
    )
    risks = sorted(read_risks(run.root / "risk.jsonl"), key=lambda risk: risk.risk, reverse=True)
    print(f"{len(risks)} records were scored early; most at risk: {', '.join(risk.id for risk in risks[:5])}")
    print(f"what was seen: {run.root / 'monitor.json'}")


if __name__ == "__main__":
    main()
