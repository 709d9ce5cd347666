# SPDX-License-Identifier: Apache-2.0
"""A user asks to be deleted: find what quotes them, take their mails out of the model, say how far that worked.

    python examples/take_a_person_out.py --out runs/deletion

The mails are made up. With your own: `reticent unlearn RUN --forget_users ID --out WITHOUT`, `reticent verify WITHOUT`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import reticent
from reticent.data import help_desk


def main() -> int:
    parser = argparse.ArgumentParser(description="Take a person out of a fine-tuned model.")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, default=Path("runs/deletion"))
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--retrained", type=int, default=5, help="models that are trained again without the user")
    given = parser.parse_args()

    mails = help_desk(users=given.users, mails_per_user=6)
    coins = reticent.SplitConfig(split_unit="record")
    run = reticent.tune(
        mails,
        base=given.model,
        out=given.out / "run",
        split_config=coins,
        tune_config=reticent.TuneConfig(method="lora", epochs=given.epochs, max_tokens=96),
    )
    membership = reticent.split(mails, unit="record", seed=coins.split_seed)
    user = next(user for user, inside in zip(membership.user, membership.member, strict=True) if inside)

    request = reticent.ForgetRequest(forget_users=user)
    config = reticent.UnlearnConfig(method="npo", retain_budget=0.05)
    without = reticent.unlearn(run, out=given.out / "without", forget=request, config=config)

    results = reticent.verify(without, oracles=given.retrained)
    print(results.verdict.headline)
    print("\n".join(f"  {sentence}" for sentence in results.verdict.sentences))
    outcome = reticent.gate_unlearning(results, max_forget_auc=0.6, min_forget_auc=0.4)
    print("\n".join(outcome.lines))
    print(f"report: {without.report}\ncertificate: {without.certificate_page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
