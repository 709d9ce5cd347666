# SPDX-License-Identifier: Apache-2.0
"""Does scrubbing help, and what does it miss? Fine-tunes on a made-up help desk as it is and scrubbed, and audits both.

    python examples/scrub_tune_audit.py --out runs/scrub

Prints three tables of what comes out of the models word for word: from the model tuned on the mails as they are;
the same secrets from the model that was tuned on the scrubbed mails; and, from that one, what the scrubber missed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from reticent.auditing.config import AuditConfig
from reticent.auditing.run import audit
from reticent.auditing.subject import Subject, from_run
from reticent.core.record import Record
from reticent.core.results import ExtractionRow, Results
from reticent.data.example import help_desk
from reticent.finetune import tune
from reticent.prepare import Prepared, prepare
from reticent.run_folder import RunFolder
from reticent.train.config import TuneConfig

ATTACKS = ("discoverable", "discoverable_short", "probabilistic_np", "prompt_prefix", "exact_memorization")
"""What is printed; the reports have all of it."""
console = Console(width=110)


def scrubbed(mails: list[Record], out: Path) -> Prepared:
    """The mails without what the detectors find. Their marks are kept from the scrubber: so what it missed is known."""
    return prepare(mails, out=out / "prepared.parquet", scrub="surrogate", marks="check", source="help desk")


def audited(subject: Subject, out: Path) -> Results:
    """What both models write, and the report."""
    return audit(subject, AuditConfig(attacks="ref_diff", extraction=True, extraction_samples=1), out=out)


def show(title: str, results: Results, group: str) -> None:
    """Rows about one group and its control: the model, its base, and the model on what was never trained on."""
    table = Table("attack", "secrets", "model", "base", "model - control", title=title, title_justify="left", box=None)
    rows = results.extraction.rows if results.extraction is not None else ()
    for row in rows:
        if row.group == group and row.attack in ATTACKS:
            table.add_row(row.attack, str(row.n), *_numbers(row))
    console.print(table if table.row_count else f"{title}: nothing to pull out", highlight=False)


def _numbers(row: ExtractionRow) -> list[str]:
    shown = []
    for found in (row.target, row.base, row.above_control):
        shown.append("–" if found is None else f"{found.value:.0%} [{found.lo:.0%}, {found.hi:.0%}]")
    return shown


def main() -> None:
    """Tune twice, audit three times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/scrub"), help="folder for data, runs and reports")
    parser.add_argument("--model", default="smollm2-135m", help="what is tuned")
    parser.add_argument("--users", type=int, default=60, help="people who write, ten mails each")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    arguments = parser.parse_args()
    out, config = arguments.out, TuneConfig(epochs=arguments.epochs, learning_rate=arguments.learning_rate)
    mails = help_desk(users=arguments.users)

    raw = tune(mails, base=arguments.model, out=out / "as_it_is", title="as it is", tune_config=config)
    before = audited(from_run(raw), raw.root)

    prepared = scrubbed(mails, out)
    clean = tune(
        prepared.records,
        base=arguments.model,
        out=out / "scrubbed",
        title="scrubbed",
        tune_config=config,
        targets=prepared.targets,
    )
    missed = audited(from_run(clean), clean.root)
    after = audited(_same_secrets(raw, clean), out / "as_it_is_from_scrubbed")

    known = "personal data, trained on"
    show("Before: personal data, from the model tuned on the mails as they are", before, known)
    show("After: the same personal data, from the model tuned on the scrubbed mails", after, known)
    show("What the scrubber missed, from the model tuned on the scrubbed mails", missed, "missed by the scrubber")
    console.print(f"reports: {raw.report}, {clean.report}; data card: {prepared.page_path}", highlight=False)


def _same_secrets(raw: RunFolder, clean: RunFolder) -> Subject:
    """The clean model, asked for what the other one was asked for: the coins are the same, by ids and users."""
    asked = from_run(raw)
    return Subject(
        title="the mails as they are, from the model tuned on scrubbed ones",
        target=str(clean.model),
        reference=asked.reference,
        records=asked.records,
        membership=asked.membership,
        max_tokens=asked.max_tokens,
    )


if __name__ == "__main__":
    main()
