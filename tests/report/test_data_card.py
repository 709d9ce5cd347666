# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import pytest

from reticent.core.record import Record
from reticent.data.dedup.rules import RULES as BY_NAME
from reticent.data.example import help_desk
from reticent.data.split import split
from reticent.report.data_card import RULES, render_data_card
from reticent.workflows.prepare import prepare

MAILS = help_desk(users=30, mails_per_user=3)


def page(tmp_path: Path, records: list[Record], **options: object) -> str:
    done = prepare(
        records, out=tmp_path / "out.parquet", detectors="email,phone,iban", source="<b>mails</b>", **options
    )
    written = done.page_path.read_text(encoding="utf-8")
    assert written == render_data_card(done.card)
    return written


def test_every_part_is_there_and_nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reticent.data.pii.missed.DETECTORS", [])
    written = page(
        tmp_path, MAILS, scrub="mask", marks="check", dedup="exact", coins=lambda kept: split(kept, unit="user", seed=0)
    )
    for anchor in ("sensitive", "scrubbed", "copies", "users", "coins", "provenance"):
        assert f'<section id="{anchor}"' in written
        assert f'href="#{anchor}"' in written
    assert "<b>" not in written
    assert "&lt;b&gt;mails" in written
    assert not re.search(r'(?:src|href)="(?!#|data:)', written)
    assert "<script" not in written
    for mail in MAILS[:10]:
        for span in mail.spans:
            assert mail.plain[span.start : span.end] not in written.partition("<main>")[2] or span.end - span.start < 6


def test_what_there_is_not_is_said(tmp_path: Path) -> None:
    written = page(tmp_path, [Record(id="a", text="nothing here"), Record(id="b", text="nothing here")])
    assert "Nothing was found." in written
    assert "The records name no users." in written
    assert "copies were counted only" in written
    assert 'id="coins"' not in written
    assert 'id="scrubbed"' not in written


def test_rules_are_those_that_there_are() -> None:
    assert [name for name, _ in RULES] == list(BY_NAME)
