# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest

from reticent.core.record import Message, Record, Span
from reticent.data.example import help_desk
from reticent.data.pii.detect import choose
from reticent.scan.behaviour.altered_copies import CopyMaker, marked, shape_of

RULES = choose("email,phone")
"""Without the model of names, which takes seconds to load."""


@pytest.fixture(scope="module")
def mails():
    return marked(help_desk(users=60, mails_per_user=2))


@pytest.fixture(scope="module")
def maker(mails):
    return CopyMaker.of(mails, copies=3, secret="weights")


def test_every_copy_has_other_values_and_the_same_sentences(mails, maker):
    for mail in mails:
        copies = maker.copies(mail)
        assert len({copy.plain for copy in (mail, *copies)}) == 4
        for copy in copies:
            assert (copy.id, copy.user) == (mail.id, mail.user)
            values = [mail.plain[span.start : span.end] for span in mail.spans if span.kind in ("PERSON", "EMAIL")]
            assert not [value for value in values if value in copy.plain]
            outside = _outside(mail)
            assert all(word in copy.plain for word in outside.split())


def _outside(mail: Record) -> str:
    text = mail.plain
    for span in sorted(mail.spans, key=lambda span: -span.start):
        text = text[: span.start] + " " + text[span.end :]
    return text


def test_values_are_replaced_alike_wherever_they_stand(mails, maker):
    """A person of several mails is the same made-up person in all of them."""
    by_user: dict[str, list[Record]] = {}
    for mail in mails:
        by_user.setdefault(str(mail.user), []).append(mail)
    people = 0
    for mine in by_user.values():
        signed = [
            {copy.plain.splitlines()[-1] for copy in (maker.copies(mail)[0],)}
            for mail in mine
            if mail.spans and mail.spans[-1].kind == "PERSON"
        ]
        if len(signed) == 2 and len({mail.plain.splitlines()[-1] for mail in mine}) == 1:
            assert signed[0] == signed[1]
            people += 1
    assert people > 5


def test_copies_follow_from_a_secret_and_nothing_else(mails, maker):
    again = CopyMaker.of(mails, copies=3, secret="weights")
    other = CopyMaker.of(mails, copies=3, secret="other weights")
    assert [copy.plain for copy in again.copies(mails[0])] == [copy.plain for copy in maker.copies(mails[0])]
    assert all(a.plain != b.plain for a, b in zip(other.copies(mails[0]), maker.copies(mails[0]), strict=True))


def test_a_copy_of_a_copy_is_drawn_like_another_copy(mails, maker):
    """Numbers keep their shape and what all of the data share."""
    record = Record(id="r", text="My order is AB-065978, call (415) 555-0123.", spans=())
    (given,) = marked([record], RULES)
    for copy in maker.copies(given):
        assert shape_of(copy.plain) == shape_of(record.text)
        (second,) = marked([copy], RULES)
        for deeper in maker.copies(second):
            assert shape_of(deeper.plain) == shape_of(record.text)
            assert deeper.plain != copy.plain


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("We met on 12 March 2021 in the park.", True),
        ("Ticket 48213 is open.", True),
        ("The fault is back after 3 days and 12 hours.", False),
        ("Nothing in here is personal.", False),
        ("", False),
    ],
)
def test_numbers_and_dates_are_altered_and_counts_are_not(maker, text, changes):
    (record,) = marked([Record(id="a", text=text)], RULES)
    assert maker.alters(record) is changes
    assert all(len(copy.plain.split()) == len(text.split()) for copy in maker.copies(record))


def test_chats_and_pairs_keep_their_shape(maker):
    pair, chat = marked(
        [
            Record(id="p", prompt="Who wrote 77123?", completion=" It was order 99123."),
            Record(
                id="c",
                messages=(
                    Message(role="user", content="Where is 55123?"),
                    Message(role="assistant", content="Order 55123 left."),
                ),
            ),
        ],
        RULES,
    )
    for copy in maker.copies(pair):
        assert copy.prompt != pair.prompt
        assert re.fullmatch(r" It was order \d{5}\.", copy.completion or "")
    for copy in maker.copies(chat):
        assert copy.messages is not None
        first, second = copy.messages
        assert first.content.split()[-1].strip("?") == second.content.split()[1]


def test_a_span_that_crosses_others_and_an_unknown_kind_do_no_harm(maker):
    text = "Ana Lee has type 2 diabetes"
    spans = (
        Span(start=0, end=7, kind="PERSON"),
        Span(start=4, end=7, kind="PERSON"),
        Span(start=12, end=27, kind="HEALTH"),
    )
    for copy in maker.copies(Record(id="a", text=text, spans=spans)):
        assert copy.plain.endswith(" has type 2 diabetes")
        assert "Ana" not in copy.plain


def test_canaries_are_drawn_anew():
    """So a canary and its copies are exchangeable to the last bit."""
    records = [
        Record(id=f"canary/secret_number/{number}", text=f"the secret number is {' '.join(f'{number:06d}')}")
        for number in range(20)
    ]
    pair = Record(id="canary/passphrase/0", prompt="The recovery phrase of Abel Quillfern is", completion=" a b c d.")
    maker = CopyMaker.of(marked([*records, pair], RULES), copies=4, secret="s")
    for record in records:
        copies = maker.copies(record)
        assert len({copy.plain for copy in copies}) == 4
        assert all(re.fullmatch(r"the secret number is( \d){6}", copy.plain) for copy in copies)
    assert all(copy.prompt and copy.prompt.startswith("The recovery phrase of ") for copy in maker.copies(pair))
    assert len({maker.copies(record)[0].plain for record in records}) == 20
