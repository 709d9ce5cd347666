# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reticent.core.record import Message, Record, Span
from reticent.train.objectives.span_removal import removal
from reticent.train.objectives.substitution import substitution

TEXT = "Ask Ana Lee (ana@example.org) about it"
SPANS = (Span(start=4, end=11, kind="PERSON"), Span(start=13, end=28, kind="EMAIL"))


def test_a_text() -> None:
    record = Record(id="1", text=TEXT, user="u", spans=SPANS)
    assert substitution(record).text == "Ask [PERSON] ([EMAIL]) about it"
    gone = removal(record)
    assert gone.text == "Ask () about it"
    assert (gone.id, gone.user, gone.spans) == ("1", "u", ())


def test_prompts_and_chats_lose_theirs_where_they_stand() -> None:
    record = Record(
        id="1",
        prompt="Who is Ana?",
        completion="Ana is Lee",
        spans=(Span(start=7, end=10, kind="PERSON"), Span(start=12, end=15, kind="PERSON")),
    )
    assert (removal(record).prompt, removal(record).completion) == ("Who is ?", " is Lee")
    chat = Record(
        id="2",
        messages=(Message(role="user", content="I am Ana"), Message(role="assistant", content="Hi Ana, bye")),
        spans=(Span(start=5, end=8, kind="PERSON"), Span(start=12, end=15, kind="PERSON")),
    )
    found = removal(chat).messages
    assert found is not None
    assert [message.content for message in found] == ["I am ", "Hi , bye"]


def test_overlapping_spans_and_spans_over_a_border_are_gone_whole() -> None:
    spans = (Span(start=0, end=5, kind="A"), Span(start=3, end=8, kind="B"))
    assert removal(Record(id="1", text="abcdefgh!", spans=spans)).text == "!"
    record = Record(id="1", prompt="abc", completion="def", spans=(Span(start=1, end=6, kind="A"),))
    assert (removal(record).prompt, removal(record).completion) == ("a", "f")


words = st.lists(st.tuples(st.sampled_from(["keep", "SECRET"]), st.booleans()), min_size=1, max_size=12)


@given(words)
def test_what_is_marked_is_gone_and_what_is_not_is_left(parts: list[tuple[str, bool]]) -> None:
    text, spans = "", []
    for word, _ in parts:
        text += " " if text else ""
        if word == "SECRET":
            spans.append(Span(start=len(text), end=len(text) + len(word), kind="X"))
        text += word
    gone = removal(Record(id="1", text=text, spans=tuple(spans))).text
    assert gone is not None
    assert gone.split() == [word for word, _ in parts if word == "keep"]
    assert "  " not in gone
