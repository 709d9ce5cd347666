# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.data.dedup import DroppedRecord, within_user

LETTER = "my parcel with the blue lamp has not come although it was sent two weeks ago from your shop"


def test_copies_and_near_copies_of_a_user_are_left_out_and_listed() -> None:
    records = [
        Record(id="a", text=LETTER, user="ana"),
        Record(id="b", text="something else that was written about", user="ana"),
        Record(id="c", text=LETTER, user="ana"),
        Record(id="d", text=LETTER + " thanks", user="ana"),
    ]
    found = within_user(records)
    assert [record.id for record in found.records] == ["a", "b"]
    assert found.dropped == (DroppedRecord("c", "a", "exact of the user"), DroppedRecord("d", "a", "near of the user"))


def test_what_others_wrote_and_what_nobody_wrote_is_left_alone() -> None:
    records = [Record(id=str(i), text=LETTER, user=user) for i, user in enumerate(("ana", "bo", None, None))]
    assert within_user(records).records == records


def test_a_prompt_that_all_share_or_a_short_answer_makes_no_copy() -> None:
    shared = [Record(id=str(i), prompt=LETTER, completion=f"answer {i} is quite another", user="ana") for i in range(3)]
    short = [Record(id=str(i), prompt=f"question {i} on topic {i * 7}", completion="yes", user="ana") for i in range(3)]
    chats = [
        Record(
            id=str(i),
            messages=(Message(role="system", content=LETTER), Message(role="assistant", content=f"reply {i}")),
            user="ana",
        )
        for i in range(3)
    ]
    for records in (shared, short, chats):
        assert within_user(records).dropped == ()


def test_what_is_left_has_no_copies_and_nothing_comes_of_nothing() -> None:
    records = [Record(id=str(i), text=f"{LETTER} {i}", user=f"u{i % 2}") for i in range(10)]
    once = within_user(records)
    assert len(once.records) == 2
    assert within_user(once.records).dropped == ()
    assert within_user([]).records == []


def test_without_users_it_is_refused() -> None:
    with pytest.raises(BadInput, match="no users"):
        within_user([Record(id="1", text="x")])
