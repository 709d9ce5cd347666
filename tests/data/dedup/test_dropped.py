# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from reticent.core.record import Record
from reticent.data.dedup import DroppedRecord, settled, write_dropped
from reticent.data.dedup.dropped import leave_out


def test_of_a_chain_the_first_stands_for_all() -> None:
    records = [Record(id=name, text=name) for name in "abcd"]
    kept, dropped = leave_out(records, np.array([-1, 0, -1, 1]), "near")
    assert [record.id for record in kept] == ["a", "c"]
    assert dropped == (DroppedRecord("b", "a", "near"), DroppedRecord("d", "a", "near"))


def test_rules_one_after_another() -> None:
    found = settled(
        [DroppedRecord("c", "b", "exact"), DroppedRecord("d", "c", "near"), DroppedRecord("b", "a", "substring")]
    )
    assert [one.kept for one in found] == ["a", "a", "a"]
    assert [one.why for one in found] == ["exact", "near", "substring"]
    assert settled([]) == ()


def test_the_file_has_ids_and_reasons(tmp_path: Path) -> None:
    write_dropped(tmp_path / "dropped.jsonl", [DroppedRecord("b", "a", "near"), DroppedRecord("é", "a", "exact")])
    lines = (tmp_path / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "b", "kept": "a", "why": "near"},
        {"id": "é", "kept": "a", "why": "exact"},
    ]
