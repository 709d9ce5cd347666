# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.data.words import (
    is_unspaced,
    is_word_of_letters,
    joined,
    pieces,
    units,
    unspaced_share,
    words,
)

MIXED = "ab é ½_' \n.漢字かなカナー々กิน你好，iPhone。한국어हिन्दी👍❤️\u200dа\u0301\U00020000"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("我买了iPhone 15吧。", "我 买 了 iPhone 15 吧"),
        ("ラーメン屋さん", "ラ ー メ ン 屋 さ ん"),
        ("ﾗｰﾒﾝ", "ﾗ ｰ ﾒ ﾝ"),
        ("กินข้าว", "กิ น ข้ า ว"),
        ("ພາສາລາວ", "ພ າ ສ າ ລ າ ວ"),
        ("ភាសា", "ភា សា"),
        ("မြန်မာ", "မြ န် မာ"),
        ("한국어 문장", "한국어 문장"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),
        ("مرحبا بالعالم", "مرحبا بالعالم"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\U00020000\U00020001", "\U00020000 \U00020001"),
        ("ไทย๒๓", "ไ ท ย ๒๓"),
        ("cafe\u0301 x", "cafe\u0301 x"),
        ("👍 ❤️ …", ""),
    ],
)
def test_words_of_many_scripts(text: str, found: str) -> None:
    assert words(text) == found.split()


@given(st.text())
def test_without_blankless_scripts_and_marks_words_are_runs_of_letters_and_digits(text: str) -> None:
    """The slow twin is what Python's ``re`` calls a word."""
    if is_unspaced(text) or any(unicodedata.category(one)[0] == "M" or one in "\u200c\u200d" for one in text):
        return
    assert words(text) == re.findall(r"\w+", text)


@given(st.text(alphabet=MIXED))
def test_pieces_are_the_whole_text(text: str) -> None:
    assert "".join(pieces(text)) == text.lstrip()
    if not is_unspaced(text):
        assert [piece.rstrip() for piece in pieces(text)] == text.split()


@given(st.lists(st.sampled_from(["ab", "c", "好", "กิ", "カ", "한국"]), max_size=6))
def test_joined_words_come_apart_again(told: list[str]) -> None:
    assert words(joined(told)) == told


def test_one_spelling() -> None:
    assert units("ｶﾞｽ") == units("ガス") == units("カ\u3099ス")
    assert units("ＡＢＣ") == ["abc"]
    assert units("👍 👍!") == ["👍", "👍"]
    assert units("!?") == []


def test_letters() -> None:
    assert [is_word_of_letters(word) for word in ("ab", "กิ", "好", "a1", "1", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_share() -> None:
    assert unspaced_share(["a b c", "好"]) == 0.25
    assert unspaced_share([]) == unspaced_share(["", "!"]) == 0
