# SPDX-License-Identifier: Apache-2.0
"""Does scrubbing help, and what does it miss? Fine-tunes on a made-up help desk as it is and scrubbed, and audits both.

    python examples/scrub_tune_audit.py --out runs/scrub

Prints what an attacker who has the text before a value gets from the model tuned on the mails as they are, from the one
tuned on the scrubbed mails, and from their base: of values that the scrubber took out, and of those that it missed.
Beside both models stands the audit's report; that of the second one is after what the scrubber missed by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from reticent.attacks.extraction.discoverable import discoverable
from reticent.attacks.extraction.probabilistic_np import probabilistic_np
from reticent.auditing.case import from_run
from reticent.auditing.config import AuditConfig
from reticent.auditing.extraction.collect import SCHEME
from reticent.auditing.extraction.prompts import make_prompts
from reticent.auditing.extraction.secrets import marked_secrets
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.secret import Secret
from reticent.data.example import help_desk
from reticent.models.load import load
from reticent.score.engine import ScoreOptions, open_engine
from reticent.score.generation.forced import TeacherForced
from reticent.score.generation.sampled_logp import force
from reticent.stats.proportions import share
from reticent.train.config import TuneConfig
from reticent.workflows.audit import audit
from reticent.workflows.prepare import PreparedData, prepare
from reticent.workflows.tune import tune

MOST = 400
"""Values of one side."""
GROUPS = ("taken out", "missed", "never trained on")
console = Console(width=110)


def scrubbed(mails: list[Record], out: Path) -> PreparedData:
    """The mails without what the detectors find. Their marks are kept from the scrubber: so what it missed is known."""
    return prepare(
        mails,
        out=out / "prepared.parquet",
        scrub="surrogate",
        marks="check",
        key_file=out / "surrogates.key",
        source="help desk",
    )


def values(raw: RunFolder, prepared: PreparedData) -> list[Secret]:
    """Marked values of the mails, in groups by what became of them."""
    subject = from_run(raw)
    found, _ = marked_secrets(subject.evaluated_records, subject.evaluated.member.tolist(), most=MOST)
    text = {record.id: record.plain for record in prepared.records}
    return [replace(one, group=_group(one, text[one.record.id])) for one in found]


def _group(one: Secret, written: str) -> str:
    if not one.member:
        return "never trained on"
    return "missed" if one.secret in written else "taken out"


def read(model: str, targets: Sequence[Secret], max_tokens: int) -> tuple[list[Secret], TeacherForced]:
    """How the model reads each value after the text before it, and which values training would have seen whole."""
    loaded = load(model)
    kept = make_prompts(targets, loaded.tokenizer, max_tokens=max_tokens, room=None).kept
    engine = open_engine(loaded.model, model, ScoreOptions())
    return [one.target for one in kept], force(engine, [one.forced() for one in kept], SCHEME)


def show(targets: Sequence[Secret], models: dict[str, str], max_tokens: int) -> Table:
    """Shares of each group, by model; 95 % intervals of each by itself, over users."""
    table = Table("comes up", "values", "n", *models, box=None)
    known: list[Secret] = []
    forced: dict[str, TeacherForced] = {}
    for name, model in models.items():
        known, forced[name] = read(model, targets, max_tokens)
    for words, attack in (("greedily", discoverable), ("in 1,000 samples, p ≥ 0.5", probabilistic_np)):
        hits = {name: attack(one) for name, one in forced.items()}
        for group in GROUPS:
            mine = np.array([one.group == group for one in known])
            users = np.array([one.record.user or one.record.id for one in known])[mine]
            if len(set(users)) < 2:
                continue
            found = (share(hit[mine], users) for hit in hits.values())
            table.add_row(words, group, str(mine.sum()), *(f"{f.value:.0%} [{f.lo:.0%}, {f.hi:.0%}]" for f in found))
    return table


def main() -> None:
    """Tune twice, audit twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/scrub"), help="folder for data, runs and reports")
    parser.add_argument("--model", default="smollm2-135m", help="what is tuned")
    parser.add_argument("--users", type=int, default=60, help="people who write, ten mails each")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    given = parser.parse_args()
    config = TuneConfig(epochs=given.epochs, learning_rate=given.learning_rate)
    mails = help_desk(users=given.users)

    raw = tune(mails, base=given.model, out=given.out / "as_it_is", title="as it is", tune_config=config)
    prepared = scrubbed(mails, given.out)
    clean = tune(
        prepared.records,
        base=given.model,
        out=given.out / "scrubbed",
        title="scrubbed",
        tune_config=config,
        targets=prepared.targets,
    )
    models = {"as it is": str(raw.model), "scrubbed": str(clean.model), "base": given.model}
    console.print(show(values(raw, prepared), models, config.max_tokens), highlight=False)
    for run in (raw, clean):
        audit(run, AuditConfig(attacks="ref_diff", extraction=True, extraction_samples=1))
        console.print(f"report: {run.report}", highlight=False)
    console.print(f"data card: {prepared.page_path}", highlight=False)


if __name__ == "__main__":
    main()
