# SPDX-License-Identifier: Apache-2.0
"""Which way to tune memorizes least at the same usefulness? Full fine-tuning and LoRA, with and without a defence.

    python examples/compare_methods.py --out runs/compared

All trainings have the same split. They are compared where their held-out loss is the same: a method that merely learned
less would leak less, and nothing would follow from that. `reticent compare` has presets for larger grids.
"""

from __future__ import annotations

import argparse

import reticent
from reticent.data import help_desk

GOLDFISH = reticent.Defence(name="goldfish", about="one token in 4 is never trained on", harden={"goldfish": 4})
NONE = reticent.Defence(name="none", about="no defence")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways to tune.")
    parser.add_argument("--model", default="smollm2-135m", help="folder, hub id or catalogue name of the base")
    parser.add_argument("--out", default="runs/compared")
    parser.add_argument("--users", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()

    full = reticent.Method(method="full", learning_rates=(1e-4,))
    lora = reticent.Method(method="lora", params={"r": 8}, learning_rates=(1e-3,))
    comparison = reticent.compare(
        help_desk(users=given.users, mails_per_user=6),
        grid=reticent.Grid(methods=(full, lora), defences=(NONE, GOLDFISH), seeds=tuple(range(given.seeds))),
        shared=reticent.TrialSettings(
            base=given.model,
            split=reticent.SplitConfig(),
            canaries=reticent.CanaryConfig(),
            training=reticent.TuneConfig(epochs=given.epochs),
            monitor=reticent.MonitorConfig(monitor=True),
        ),
        out=given.out,
        jobs=1,
    )
    for setting in comparison.settings:
        if setting.matched is None:
            print(f"{setting.name}: cannot be compared, {setting.why_not}")
        else:
            print(f"{setting.name}: AUC {setting.matched.auc} at held-out loss {setting.matched.loss:.2f}")
    print(f"report: {given.out}/report.html")


if __name__ == "__main__":
    main()
