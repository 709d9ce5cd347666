# SPDX-License-Identifier: Apache-2.0
"""The demo: a made-up help desk, a real pre-trained model, one report. All choices of it stand here."""

from __future__ import annotations

from pathlib import Path

from reticent.auditing.config import AuditConfig
from reticent.core.results import Results
from reticent.data.example import help_desk
from reticent.train.config import TuneConfig
from reticent.workflows.audit import audit
from reticent.workflows.tune import CanaryConfig, SplitConfig, tune

TITLE = "Demo: a made-up help desk"
MODEL = "smollm2-135m"
USERS = 160
MAILS_PER_USER = 6

SPLIT = SplitConfig(split_unit="user", split_seed=1)
CANARIES = CanaryConfig(canaries=48, canary_controls=250)
TUNING = TuneConfig(method="full", epochs=3, learning_rate=1e-4)
AUDIT = AuditConfig(attacks="standard")


def demo(out: str | Path) -> tuple[Path, Results]:
    """Make the corpus, fine-tune on it and audit the outcome. Returns the report's path and the results."""
    records = help_desk(users=USERS, mails_per_user=MAILS_PER_USER, seed=0)
    run = tune(
        records, base=MODEL, out=out, title=TITLE, split_config=SPLIT, canary_config=CANARIES, tune_config=TUNING
    )
    return run.report, audit(run, AUDIT)
