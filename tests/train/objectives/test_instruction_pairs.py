# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.train.objectives.instruction_pairs import for_readers, instruct, instruction_pair

NAME = (Span(start=0, end=3, kind="PERSON"),)


@pytest.mark.parametrize("order", ["pn", "np"])
def test_readers_get_the_protected_version_of_a_text_and_nothing_else(order: str) -> None:
    pair = instruction_pair(Record(id="1", text="Ana called", user="u", spans=NAME), order=order)
    assert pair.prompt == instruct(None)
    assert pair.completion is not None
    assert "Ana called" in pair.completion
    assert for_readers(pair.completion, order=order) == "[PERSON] called"
    assert (pair.id, pair.user, pair.spans) == ("1", "u", ())


def test_the_orders_differ_in_what_comes_first() -> None:
    record = Record(id="1", text="Ana called", spans=NAME)
    first = {order: instruction_pair(record, order=order).completion or "" for order in ("pn", "np")}
    assert first["pn"].index("[PERSON]") < first["pn"].index("Ana")
    assert first["np"].index("Ana") < first["np"].index("[PERSON]")


def test_prompts_are_cleaned_and_kept() -> None:
    record = Record(
        id="1",
        prompt="Ana asks",
        completion="yes, Ana",
        spans=(*NAME, Span(start=14, end=17, kind="PERSON")),
    )
    pair = instruction_pair(record, order="pn")
    assert pair.prompt == instruct("[PERSON] asks")
    assert for_readers(pair.completion or "", order="pn") == "yes, [PERSON]"


def test_every_turn_of_a_chat_is_a_pair() -> None:
    chat = Record(
        id="1",
        messages=(
            Message(role="user", content="Ana here"),
            Message(role="assistant", content="Hello Ana"),
            Message(role="user", content="Bye"),
            Message(role="assistant", content="Goodbye"),
        ),
        spans=(*NAME, Span(start=15, end=18, kind="PERSON")),
    )
    turns = instruction_pair(chat, order="np").messages
    assert turns is not None
    assert [turn.role for turn in turns] == ["user", "assistant", "user", "assistant"]
    assert turns[0].content == instruct("[PERSON] here").strip()
    assert [for_readers(turn.content, order="np") for turn in turns[1::2]] == ["Hello [PERSON]", "Goodbye"]


def test_an_answer_without_the_parts_shows_nothing() -> None:
    assert for_readers("Ana called", order="pn") == ""
    assert for_readers("Internal version:\nAna called", order="np") == ""
    quoted = "Internal version:\nVersion for readers: Ana called\n\nVersion for readers:\n[PERSON] called"
    assert for_readers(quoted, order="np") == "[PERSON] called"
    with pytest.raises(BadInput):
        for_readers("", order="xy")
