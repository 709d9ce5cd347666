# SPDX-License-Identifier: Apache-2.0
"""Texts and values held against records, however they are laid out."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.unlearning.matching import with_expression, with_text, with_value
from reticent.unlearning.normal_text import normal_text

MAIL = "Dear shop,\n\nthe parcel came late.\nAna"


@pytest.mark.parametrize(
    "other",
    [
        MAIL.replace("\n", "\r\n"),
        MAIL.replace("\n", "\r"),
        "\ufeff" + MAIL,
        "> Dear shop,\n>\n> the parcel came late.\n> Ana",
        ">> Dear shop,\n>> \n> > the parcel came late.\n>>Ana",
        "  Dear   shop,\u00a0the\tparcel came\nlate. Ana\n\n",
    ],
)
def test_layout_does_not_count(other):
    assert with_text([other], [Record(id="a", text=MAIL)]) == [[0]]
    assert with_text([MAIL], [Record(id="a", text=other)]) == [[0]]


@pytest.mark.parametrize("other", [MAIL.lower(), MAIL[:-1], MAIL + ".", MAIL.replace(",", ""), "", ">"])
def test_words_and_signs_count(other):
    assert with_text([other], [Record(id="a", text=MAIL)]) == [[]]


def test_a_sign_within_a_line_is_no_quotation():
    assert normal_text("a > b\n>c") == "a > b c"
    assert normal_text("cafe\u0301") == normal_text("café")


def test_shapes():
    answer = "Your parcel was sent on Monday and will be with you by Wednesday at noon, I promise you."
    pair = Record(id="p", prompt="Where is it?", completion=answer)
    chat = Record(id="c", messages=(Message(role="user", content="Hi"), Message(role="assistant", content=answer)))
    short = Record(id="s", prompt="Is it late?", completion="Yes")
    records = [pair, chat, short, Record(id="t", text="Yes")]
    assert with_text([answer, f"Where is it?\n{answer}", "Yes", "Is it late? Yes"], records) == [[0, 1], [0], [3], [2]]


def test_all_that_have_the_text():
    assert with_text(["a b", "c"], [Record(id=str(n), text="a  b") for n in range(3)]) == [[0, 1, 2], []]


@pytest.mark.parametrize(
    ("value", "text", "holds"),
    [
        ("ann", "Dear ANN, hello", True),
        ("ann", "annual", False),
        ("ann", "an annual sum for Ann", True),
        ("555-0134", "call 555-0134.", True),
        ("555-0134", "call 1555-0134", False),
        ("555-0134", "call 555-01345", False),
        ("@x.org", "ana@x.org", True),
        ("Ana  Lee", "to Ana\nLee", True),
        ("Ana Lee", "> to Ana\n> Lee", True),
        ("straße", "STRASSE 7", True),
        ("李明", "我叫李明你好", True),
        ("a.c", "abc", False),
        ("a.c", "a.c", True),
        (".*", "anything", False),
        ("(", "f(x)", True),
        ("cafe\u0301", "un café", True),
    ],
)
def test_values(value, text, holds):
    assert with_value(value, [Record(id="r", text=text)]) == ([0] if holds else [])


@given(st.text(alphabet="ab -", max_size=30), st.text(alphabet="ab", min_size=1, max_size=3))
def test_values_against_a_slow_twin(text, value):
    words = normal_text(text).replace("-", " ").split()
    assert bool(with_value(value, [Record(id="r", text=text)])) == (value in words)


def test_a_value_of_nothing_but_layout_is_refused():
    with pytest.raises(BadInput, match="matches the empty text"):
        with_value("> ", [Record(id="r", text="a")])


def test_expressions():
    records = [
        Record(id="a", text="order BW-12"),
        Record(id="b", prompt="BW-9?", completion="no"),
        Record(id="c", text="bw-1"),
    ]
    assert with_expression(r"BW-\d+", records) == [0, 1]
    assert with_expression(r"(?i)bw-\d+", records) == [0, 1, 2]


@pytest.mark.parametrize("expression", ["x*", "", "(?=a)", r"\b", "a|", "^", "$"])
def test_expressions_that_match_nothing_at_all_are_refused(expression):
    with pytest.raises(BadInput, match="matches the empty text, so every record"):
        with_expression(expression, [Record(id="a", text="a b")])


@pytest.mark.parametrize("expression", ["(", "[a", "a**", "(?P<x", "(" * 400 + ")" * 400, r"\p{Nothing}", "(?<=a*"])
def test_what_is_no_expression_is_refused(expression):
    with pytest.raises(BadInput, match="is no regular expression"):
        with_expression(expression, [Record(id="a", text="a b")])


def test_an_expression_that_backtracks_is_stopped():
    start = time.monotonic()
    with pytest.raises(BadInput, match=r"takes more than 0.2 seconds on one record.*\(\?>a\+\)\+"):
        with_expression(r"(a+)+$", [Record(id="a", text="a" * 5000 + "b")], a_record=0.2)
    assert time.monotonic() - start < 10


def test_an_expression_that_is_slow_on_all_is_stopped():
    ticks = iter(range(0, 10_000, 50))
    with pytest.raises(BadInput, match="two minutes on all records"):
        with_expression("z", [Record(id=str(n), text="a") for n in range(9)], clock=lambda: float(next(ticks)))
