# SPDX-License-Identifier: Apache-2.0
"""What is public of a record does not depend on what its spans hold, and nothing of it gets lost."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.models.encode import EncodedRecord, encode
from reticent.privacy.token_mask import PLACEHOLDER, is_sensitive, redacted, select
from reticent.testing.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SHAPES = ("text", "pair", "chat")

Parts = list[tuple[str, bool]]
"""Texts one behind the other, and whether each is a secret."""

TEXT = st.text(alphabet="the ordé漢_\n", min_size=1, max_size=12)
PARTS = st.lists(st.tuples(TEXT, st.booleans()), max_size=4)


def built(pieces: list[Parts], shape: str, id_: str = "r") -> Record:
    """A record of one text for each list of parts, with spans on the secrets."""
    texts, spans, at = [], [], 0
    for parts in pieces:
        for text, secret in parts:
            if secret:
                spans.append(Span(start=at, end=at + len(text), kind="X"))
            at += len(text)
        texts.append("".join(text for text, _ in parts))
        at += 1
    if shape == "text":
        return Record(id=id_, text=texts[0], spans=tuple(spans))
    if shape == "pair":
        return Record(id=id_, prompt=texts[0], completion=texts[1], spans=tuple(spans))
    roles = ("user", "assistant") * len(texts)
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, texts, strict=False))
    return Record(id=id_, messages=messages, spans=tuple(spans))


def joined(parts: Parts) -> str:
    """With one placeholder for secrets that touch."""
    text = "".join(PLACEHOLDER if secret and not before else "" if secret else text
                   for (_, before), (text, secret) in pairwise([("", False), *parts]))  # fmt: skip
    return text


@st.composite
def twins(draw: st.DrawFn) -> tuple[list[Parts], list[Parts], str]:
    """The same text twice, with other secrets, of other lengths."""
    shape = draw(st.sampled_from(SHAPES))
    count = {"text": 1, "pair": 2, "chat": 4}[shape]
    one = [draw(PARTS) for _ in range(count)]
    other = [[(draw(TEXT) if secret else text, secret) for text, secret in parts] for parts in one]
    return one, other, shape


def same(one: EncodedRecord, other: EncodedRecord) -> bool:
    return one.token_id.tolist() == other.token_id.tolist() and one.trained.tolist() == other.trained.tolist()


@settings(deadline=None, max_examples=200)
@given(case=twins())
def test_the_public_part_is_the_same_whatever_the_secrets_are(case: tuple[list[Parts], list[Parts], str]) -> None:
    one, other, shape = case
    first, second = built(one, shape), built(other, shape)
    assert redacted(first) == redacted(second)
    assert is_sensitive(first) == is_sensitive(second)
    assert redacted(first).plain == "\n".join(map(joined, one))
    extra = [built([[("order ", False), ("x", True), (" it", False)]], "text", id_="e")]
    seen = [select([record, *extra], TOKENIZER, max_tokens=30) for record in (first, second)]
    assert len(seen[0].public) == len(seen[1].public)
    assert seen[0].records == seen[1].records
    assert all(same(a, b) for a, b in zip(seen[0].public, seen[1].public, strict=True))


@settings(deadline=None, max_examples=100)
@given(case=twins())
def test_placeholders_are_where_the_new_spans_say(case: tuple[list[Parts], list[Parts], str]) -> None:
    record = redacted(built(case[0], case[2]))
    assert all(record.plain[span.start : span.end] == PLACEHOLDER for span in record.spans)
    rest = record.plain
    for span in reversed(record.spans):
        rest = rest[: span.start] + rest[span.end :]
    assert rest == "\n".join("".join(text for text, secret in parts if not secret) for parts in case[0])


@settings(deadline=None, max_examples=100)
@given(case=twins())
def test_what_is_private_is_trained_on_inside_of_spans_only(case: tuple[list[Parts], list[Parts], str]) -> None:
    record = built(case[0], case[2])
    sure = built([[("an order of ", False), ("hers", True)]], "text", id_="s")
    found = select([sure, record], TOKENIZER, max_tokens=500)
    secrets = [parts for parts, (trained, _) in zip(case[0], record.pieces, strict=True) if trained]
    assert is_sensitive(record) == any(secret for parts in secrets for _, secret in parts)
    assert found.records == ((0, 1) if is_sensitive(record) else (0,))
    whole = encode(record, TOKENIZER, add_eos=True, mark_spans=True)
    if is_sensitive(record):
        assert found.private[1].token_id.tolist() == whole.token_id.tolist()
        assert found.private[1].trained.tolist() == (whole.trained & whole.marked).tolist()
        text = TOKENIZER.decode(found.private[1].token_id[found.private[1].trained])
        assert all(secret in text for parts in secrets for secret, is_secret in parts if is_secret)


def test_each_part_by_hand() -> None:
    record = built(
        [[("Call ", False), ("Ann", True), (" of ", False), ("Rye", True)], [("I called ", False), ("Ann", True)]],
        "pair",
    )
    found = select([record], TOKENIZER, max_tokens=99)
    (private,), (public,) = found.private, found.public
    assert TOKENIZER.decode(private.token_id) == "Call Ann of RyeI called Ann<|eos|>"
    assert TOKENIZER.decode(private.token_id[private.trained]) == "Ann"
    assert TOKENIZER.decode(public.token_id) == "Call ___ of ___I called ___<|eos|>"
    assert TOKENIZER.decode(public.token_id[public.trained]) == "I called <|eos|>"


def test_a_token_across_the_border_of_a_span_is_learned_with_noise() -> None:
    """``the`` is one token here, and only its last letter is secret."""
    record = Record(id="1", text="in the order", spans=(Span(start=5, end=6, kind="X"),))
    found = select([record], TOKENIZER, max_tokens=99)
    assert TOKENIZER.decode(found.private[0].token_id[found.private[0].trained]) == "the"
    assert TOKENIZER.decode(found.public[0].token_id) == "in th___ order<|eos|>"
    assert TOKENIZER.decode(found.public[0].token_id[found.public[0].trained]) == "in th order<|eos|>"


def test_secrets_in_what_is_not_trained_on_are_hidden_and_learned_by_nobody() -> None:
    record = built([[("I am ", False), ("Ann", True)], [("Hello", False)]], "pair")
    other = built([[("I am ", False), ("Bob", True)], [("Hello ", False), ("Bob", True)]], "pair", id_="o")
    found = select([record, other], TOKENIZER, max_tokens=99)
    assert found.records == (1,)
    assert TOKENIZER.decode(found.public[0].token_id) == "I am ___Hello<|eos|>"


def test_spans_that_overlap_touch_or_repeat_are_one() -> None:
    spans = tuple(Span(start=start, end=end, kind="") for start, end in ((6, 8), (2, 4), (3, 5), (5, 6), (2, 4)))
    assert redacted(Record(id="1", text="abcdefghij", spans=spans)).text == "ab___ij"
    across = Record(id="2", prompt="abc", completion="def", spans=(Span(start=2, end=5, kind=""),))
    assert (redacted(across).prompt, redacted(across).completion) == ("ab___", "___ef")
    assert redacted(redacted(across)) == redacted(across)
    between = replace(across, spans=(Span(start=3, end=4, kind=""),))
    assert redacted(between).plain == "abc\ndef"
    assert redacted(between).spans == ()


def test_what_is_cut_off_is_trained_in_neither_part() -> None:
    record = built([[("abcd", False), ("efgh", True), ("ijkl", False)]], "text")
    found = select([record], TOKENIZER, max_tokens=6)
    assert TOKENIZER.decode(found.private[0].token_id) == "abcdef"
    assert TOKENIZER.decode(found.private[0].token_id[found.private[0].trained]) == "ef"
    assert TOKENIZER.decode(found.public[0].token_id) == "abcd__"
    assert found.private[0].truncated
    assert found.public[0].truncated


@pytest.mark.parametrize(
    ("record", "max_tokens", "why"),
    [
        (Record(id="1", text="nothing here"), 99, "no marked spans"),
        (built([[("abcdef", False), ("secret", True)]], "text"), 6, "no marked span in what is trained on"),
        (built([[("I am ", False), ("Ann", True)], [("Hello", False)]], "pair"), 99, "no marked span in what is"),
        (built([[("secret", True)]], "text"), 1, "no marked span"),
        (Record(id="1", text="abc", spans=(Span(start=2, end=9, kind=""),)), 99, "has a span from 2 to 9"),
    ],
)
def test_what_cannot_be_protected_is_refused(record: Record, max_tokens: int, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        select([record], TOKENIZER, max_tokens=max_tokens)


def test_texts_without_anything_public_are_refused() -> None:
    endless = built([[("secret", True)]], "text")
    with pytest.raises(BadInput, match="from beginning to end"):
        select([endless], TOKENIZER, max_tokens=3)
