# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from reticent.core.record import Message, Record
from reticent.data.dedup import DroppedRecord, drop_exact_duplicates


def test_first_copy_stays_and_shape_counts() -> None:
    records = [
        Record(id="a", text="x", user="u"),
        Record(id="b", text="x", user="v"),
        Record(id="c", prompt="", completion="x"),
        Record(id="d", messages=(Message(role="assistant", content="x"),)),
        Record(id="e", text="x "),
        Record(id="f", prompt="", completion="x"),
    ]
    kept, dropped = drop_exact_duplicates(iter(records))
    assert [record.id for record in kept] == ["a", "c", "d", "e"]
    assert dropped == (DroppedRecord("b", "a", "exact"), DroppedRecord("f", "c", "exact"))


def test_nothing() -> None:
    assert drop_exact_duplicates([]) == ([], ())
