# SPDX-License-Identifier: Apache-2.0
"""Does scrubbing help? Fine-tune on mails as they are and on scrubbed ones, and try to get personal data out of both.

    python examples/scrub_tune_audit.py --out runs/scrub

The scrubber does not see the marks that the made-up mails have, so what it missed is known: these values become targets
of the second audit. `benchmarks/scrubbed_values.py` follows every value, with intervals over users.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import reticent
from reticent.data import help_desk


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Scrub, tune, audit, and compare with tuning on the mails as they are."
    )
    parser.add_argument("--model", default="smollm2-135m", help="folder, hub id or catalogue name of the base")
    parser.add_argument("--out", type=Path, default=Path("runs/scrub"))
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()

    mails = help_desk(users=given.users)
    prepared = reticent.prepare(mails, out=given.out / "prepared.parquet", scrub="surrogate", marks="check")
    print(f"{len(prepared.records)} mails, {len(prepared.targets)} values missed; data card: {prepared.page_path}")

    config = reticent.TuneConfig(epochs=given.epochs, learning_rate=1e-4)
    raw = reticent.tune(mails, base=given.model, out=given.out / "as_it_is", tune_config=config)
    clean = reticent.tune(
        prepared.records,
        base=given.model,
        out=given.out / "scrubbed",
        tune_config=config,
        targets=prepared.targets,
    )
    for run in (raw, clean):
        results = reticent.audit(run, reticent.AuditConfig(attacks="ref_diff", extraction=True, extraction_samples=1))
        print(f"\n{run.root.name}: {run.report}")
        for row in results.extraction.rows:
            if row.attack in ("discoverable", "probabilistic_np") and row.metric == "share":
                base = "" if row.base is None else f", base {row.base.value:.0%}"
                print(f"  {row.attack}, {row.group}: {row.target.value:.0%} of {row.n}{base}")


if __name__ == "__main__":
    main()
