# SPDX-License-Identifier: Apache-2.0
"""Fine-tune with differential privacy for each user, and hold the promise against an audit.

    python examples/private_per_user.py --epsilon 8 --out runs/private

The promise is an upper bound that is proved; an audit measures a lower bound. A second above the first would show
that something is broken. Privacy costs usefulness, so the perplexity before and after is worth a look.
"""

from __future__ import annotations

import argparse

import reticent
from reticent.data import help_desk


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune privately for each user, audit the promise.")
    parser.add_argument("--model", default="smollm2-135m", help="folder, hub id or catalogue name of the base")
    parser.add_argument("--out", default="runs/private")
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--epsilon", type=float, default=8.0)
    given = parser.parse_args()

    run = reticent.tune(
        help_desk(users=given.users, mails_per_user=4),
        base=given.model,
        out=given.out,
        tune_config=reticent.TuneConfig(method="lora", epochs=given.epochs),
        privacy=reticent.PrivacySpec(epsilon=given.epsilon, unit="user"),
    )
    promise = reticent.PrivacyGuarantee.from_json((run.model / "privacy.json").read_text(encoding="utf-8"))
    print(promise.sentence())

    results = reticent.audit(run, reticent.AuditConfig(attacks="loss,ref_diff,user_inference"))
    audited = results.promise
    print(f"promised ε = {audited.epsilon:.2f} per {audited.unit}")
    for bound in audited.bounds:  # none where there are too few units
        print(f"shown ε ≥ {bound.estimate.lo:.2f} ({bound.units}; {bound.assumption or 'no assumption'})")
    print("the promise is broken" if audited.broken else "nothing that was measured is above the promise")
    print(f"report: {run.report}")


if __name__ == "__main__":
    main()
