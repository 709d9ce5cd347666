# SPDX-License-Identifier: Apache-2.0
"""Leaving out what users repeat, from data to run folder."""

from __future__ import annotations

import json
from pathlib import Path

from reticent.core.membership import read_membership
from reticent.core.record import Record, read_records
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.hardening import HardenConfig
from reticent.workflows.tune import SplitConfig, tune

TINY = TuneConfig(epochs=1, learning_rate=1e-2, max_tokens=24, dtype="float32")


def test_copies_are_left_out_before_the_coins_and_recorded(tmp_path: Path) -> None:
    base = str(save_tiny(tmp_path / "base"))
    mails = [
        Record(id=f"u{user}m{mail}", text=f"mail {user} about {mail} things that are {mail}", user=f"u{user}")
        for user in range(12)
        for mail in range(4)
    ]
    again = [Record(id=f"{mail.id}b", text=f"{mail.text} bye", user=mail.user) for mail in mails[:10]]
    plain = tune(mails, base=base, out=tmp_path / "plain", split_config=SplitConfig(), tune_config=TINY)
    run = tune(
        [*mails, *again],
        base=base,
        out=tmp_path / "run",
        split_config=SplitConfig(),
        tune_config=TINY,
        harden=HardenConfig(dedup_users=True),
    )
    dropped = [json.loads(line) for line in run.dropped.read_text().splitlines()]
    assert dropped == [{"id": mail.id, "kept": mail.id[:-1], "why": "near of the user"} for mail in again]
    assert read_records(run.records) == mails
    assert (read_membership(run.membership).member == read_membership(plain.membership).member).all()
    assert not plain.dropped.exists()
    assert json.loads(run.manifest.read_text())["tune"]["harden"] == {"dedup_users": True}
