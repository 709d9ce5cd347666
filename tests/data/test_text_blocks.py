# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.text_blocks import blocks


def paragraphs(*texts: str) -> list[Record]:
    return [Record(id=f"p{i}", text=text) for i, text in enumerate(texts)]


def test_text_is_joined_and_cut_after_so_many_words() -> None:
    found = blocks(paragraphs("a b  c", "d e", "f g"), 3)
    assert [(record.id, record.text) for record in found] == [("b000001", "a b  c"), ("b000002", "d e\nf")]


@given(st.lists(st.text(alphabet="ab \n", min_size=1), min_size=1, max_size=8), st.integers(1, 5))
def test_every_word_is_kept_in_order_but_for_a_short_rest(texts: list[str], words: int) -> None:
    every = " ".join(texts).split()
    if len(every) < words:
        with pytest.raises(BadInput, match="block_words"):
            blocks(paragraphs(*texts), words)
        return
    found = blocks(paragraphs(*texts), words)
    assert all(record.text is not None and len(record.text.split()) == words for record in found)
    kept = [word for record in found for word in (record.text or "").split()]
    assert kept == every[: len(every) // words * words]


@pytest.mark.parametrize(
    "record",
    [Record(id="a", text="a b c", user="someone"), Record(id="a", prompt="a", completion="b c d")],
)
def test_what_would_be_torn_apart_is_refused(record: Record) -> None:
    with pytest.raises(BadInput, match="only plain texts"):
        blocks([record], 2)


def test_texts_without_blanks_are_cut_behind_so_many_characters() -> None:
    found = blocks(paragraphs("我的包裹，没有到。", "Bo说：请退款！"), 4)
    assert [record.text for record in found] == ["我的包裹，", "没有到。\nBo", "说：请退款！"]
    thai = blocks(paragraphs("กินข้าวแล้ว"), 3)
    assert [record.text for record in thai] == ["กินข้", "าวแ"]
