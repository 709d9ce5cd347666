# SPDX-License-Identifier: Apache-2.0
"""Secrets to extract: groups and controls, without values that say nothing about training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reticent.auditing.extraction.prompts import make_prompts, start_tokens
from reticent.auditing.extraction.secrets import (
    CONTROL,
    HELD_OUT,
    TRAINED,
    ValueOwners,
    canary_secrets,
    control_of,
    given_secrets,
    marked_secrets,
)
from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.core.secret import Secret
from reticent.data.canaries import NOT_PLANTED, Canary
from reticent.testing.tiny import tiny_tokenizer


def marked(*args, **options):
    """The secrets alone, without the count of those left out."""
    return marked_secrets(*args, **options)[0]


def record(number: int, value: str, *, user: str | None = None, again: str = "") -> Record:
    text = f"My code is {value}. {again}"
    spans = [Span(start=11, end=11 + len(value), kind="CODE")]
    if again:
        spans.append(Span(start=len(text) - len(again), end=len(text), kind="CODE"))
    return Record(id=f"r{number}", text=text, user=user, spans=tuple(spans))


def canary(number: int, repetitions: int, planted: bool, shape: str = "text") -> Canary:
    text = f"the secret number is 1 2 {number}"
    return Canary(
        id=f"c{number}", kind="secret_number", repetitions=repetitions, planted=planted, text=text, space=100,
        probability=0.5, start=21, shape=shape,
    )  # fmt: skip


def test_planted_secrets_go_by_how_often_and_the_others_are_controls():
    secrets = canary_secrets(
        [canary(1, 1, True), canary(2, 16, True), canary(3, 4, False), canary(4, 0, False)], most=9
    )
    assert {secret.id: secret.group for secret in secrets} == {
        "c1": "planted once", "c2": "planted 16 times", "c3": NOT_PLANTED, "c4": NOT_PLANTED
    }  # fmt: skip
    assert [secret.member for secret in secrets] == [True, True, False, False]
    assert {secret.secret for secret in secrets} == {f"1 2 {n}" for n in range(1, 5)}


def test_few_controls_are_enough_and_planted_ones_all_stay():
    secrets = canary_secrets([canary(n, 4, n < 5) for n in range(30)], most=3)
    assert sum(secret.member for secret in secrets) == 5
    assert sum(not secret.member for secret in secrets) == 3


@pytest.mark.parametrize("shape", ["text", "pair", "chat"])
def test_the_secret_of_every_shape_is_found_in_its_record(shape):
    (secret,) = canary_secrets([canary(7, 1, True, shape)], most=3)
    assert secret.secret == "1 2 7"
    (prompt,) = make_prompts([secret], tiny_tokenizer(), max_tokens=None, room=512).kept
    assert tiny_tokenizer().decode(prompt.suffix).strip().endswith("1 2 7")
    assert "secret number is" in tiny_tokenizer().decode(prompt.given())


def test_values_that_both_sides_have_are_left_out():
    records = [record(1, "alpha-1"), record(2, "beta-22"), record(3, "alpha-1"), record(4, "gamma-3")]
    secrets = marked(records, [True, True, False, False], most=9)
    assert {(secret.secret, secret.group, secret.member) for secret in secrets} == {
        ("beta-22", TRAINED, True), ("gamma-3", HELD_OUT, False)
    }  # fmt: skip


def signed(user: str, number: int, *, to: str = "") -> Record:
    """A mail with its sender's address, and maybe another one's."""
    address = f"{user}@example.org"
    text = f"Mail {number}. {address} {to}".rstrip()
    spans = [Span(start=text.index(address), end=text.index(address) + len(address), kind="EMAIL")]
    if to:
        spans.append(Span(start=text.index(to), end=text.index(to) + len(to), kind="EMAIL"))
    return Record(id=f"{user}{number}", text=text, user=user, spans=tuple(spans))


@pytest.mark.parametrize("by_user", [True, False])
def test_what_ones_own_held_out_records_have_too_is_a_secret_and_no_control(by_user):
    """Sixteen users with half of their mails trained on, and ten who are out: everybody's address in every mail."""
    records = [signed(f"in{n:02d}", k) for n in range(16) for k in range(4)]
    member = [k < 2 for _ in range(16) for k in range(4)]
    records += [signed(f"out{n:02d}", k) for n in range(10) for k in range(2)]
    member += [False] * 20
    secrets = marked(records, member, most=99, by_user=by_user)
    assert {secret.secret for secret in secrets if secret.member} == {f"in{n:02d}@example.org" for n in range(16)}
    assert {secret.secret for secret in secrets if not secret.member} == {f"out{n:02d}@example.org" for n in range(10)}
    assert all(secret.record.user in secret.secret for secret in secrets)


def test_what_other_people_have_who_were_held_out_is_counted_and_left_out():
    desk = "desk@example.org"
    records = [signed("ana", 1, to=desk), signed("ana", 2, to=desk), signed("bo", 1, to=desk), signed("cy", 1)]
    secrets, left_out = marked_secrets(records, [True, False, False, False], most=9, by_user=True)
    assert {(secret.secret, secret.member) for secret in secrets} == {
        ("ana@example.org", True), ("bo@example.org", False), ("cy@example.org", False)
    }  # fmt: skip
    assert left_out == 1
    elsewhere = [(signed("dee", 1, to="ana@example.org"), False)]
    secrets, left_out = marked_secrets(records, [True, False, False, False], most=9, elsewhere=elsewhere)
    assert not any(secret.member for secret in secrets)
    assert left_out == 2


def test_where_coins_go_by_user_only_users_who_are_out_are_controls():
    records = [signed("ana", 1), signed("ana", 2, to="friend@example.net"), signed("bo", 1)]
    member = [True, False, False]
    per_user = marked(records, member, most=9, by_user=True)
    assert {secret.secret for secret in per_user if not secret.member} == {"bo@example.org"}
    per_record = marked(records, member, most=9)
    assert {secret.secret for secret in per_record if not secret.member} == {"bo@example.org", "friend@example.net"}


def test_sides_of_values():
    held = [(signed("ana", 1), True), (signed("ana", 2, to="x@example.net"), False), (signed("bo", 1), False)]
    owners = {by: ValueOwners(held, by_user=by) for by in (True, False)}
    for by, holders in owners.items():
        assert holders.side_of("ana@example.org") is True
        assert holders.side_of("bo@example.org") is False
        assert holders.side_of("x@example.net") is (None if by else False)
        assert holders.side_of("nobody") is None
    owners[True].add("ana@example.org", signed("bo", 1), trained=False)
    assert owners[True].side_of("ana@example.org") is None


def test_one_value_of_each_record_comes_before_a_second_of_any():
    records = [record(n, f"code-{n:03d}", again=f"more-{n:03d}") for n in range(10)]
    secrets = marked(records, [True] * 10, most=10)
    assert {secret.record.id for secret in secrets} == {f"r{n}" for n in range(10)}
    assert len(marked(records, [True] * 10, most=15)) == 15


def test_what_stands_in_a_prompt_or_is_short_is_no_secret():
    pair = Record(id="p", prompt="I am Anabel", completion="ok, Roberta", spans=(
        Span(start=5, end=11, kind="PERSON"), Span(start=16, end=23, kind="PERSON"), Span(start=12, end=14, kind="X"),
    ))  # fmt: skip
    assert [secret.secret for secret in marked([pair], [True], most=9)] == ["Roberta"]


def test_records_without_marks_are_looked_through():
    plain = Record(id="a", text="code code-123")
    secrets = marked([plain], [True], most=9, find=lambda r: replace(r, spans=(Span(start=5, end=13, kind="CODE"),)))
    assert [secret.secret for secret in secrets] == ["code-123"]
    assert marked([plain], [True], most=9) == []


def test_controls_are_matched():
    missed = Secret(id="t", record=record(1, "alpha-1"), start=11, end=18, kind="CODE", group="missed", member=True)
    secrets, _ = given_secrets([missed, replace(missed, id="u", member=False)], [], [])
    assert [secret.group for secret in secrets] == ["missed", f"missed{CONTROL}"]
    assert given_secrets(secrets, [], []) == (secrets, 0)
    many = [replace(missed, id=f"t{n}", record=record(n, f"code-{n:02d}"), member=n % 3 == 0) for n in range(60)]
    few, _ = given_secrets(many, [], [], most=9)
    assert [sum(secret.member == member for secret in few) for member in (True, False)] == [9, 9]
    assert set(few) < set(given_secrets(many, [], [])[0])
    controls = {f"missed{CONTROL}", NOT_PLANTED, HELD_OUT}
    assert control_of("missed", controls, randomized=False) == f"missed{CONTROL}"
    assert control_of("planted 4 times", controls, randomized=True) == NOT_PLANTED
    assert control_of(TRAINED, controls, randomized=False) == HELD_OUT
    assert control_of("other", controls, randomized=False) == HELD_OUT
    assert control_of("planted once", {HELD_OUT}, randomized=True) == ""
    # the words of a group decide nothing
    assert control_of("planted by the vendor", controls, randomized=False) == HELD_OUT
    assert control_of("inserted 4 times", controls, randomized=True) == NOT_PLANTED


def test_a_listed_value_of_both_sides_is_nobodys():
    def listed(number: int, value: str, member: bool) -> Secret:
        source = record(number, value)
        return Secret(
            id=f"t{number}", record=source, start=11, end=11 + len(value), kind="CODE", group="g", member=member
        )

    secrets = [
        listed(1, "alpha-1", True), listed(2, "beta-22", True), listed(3, "alpha-1", True), listed(4, "beta-22", False),
        listed(5, "gamma-3", False), listed(6, "gamma-3", False),
    ]  # fmt: skip
    records = [secret.record for secret in secrets]
    member = [secret.member for secret in secrets]
    chosen, left_out = given_secrets(secrets, records, member)
    assert ([secret.id for secret in chosen], left_out) == (["t1", "t5"], 2)
    assert given_secrets([], records, member) == ([], 0)
    more = [*records, Record(id="x", text="and alpha-1 again")]
    chosen, left_out = given_secrets(secrets, more, [*member, False])
    assert ([secret.id for secret in chosen], left_out) == (["t5"], 3)


# ---- prompts ----------------------------------------------------------------------------------------------------


def secret_in(text: str, start: int, end: int, **more) -> Secret:
    shape = more if more else {"text": text}
    return Secret(
        id="t", record=Record(id="r", **shape), start=start, end=end, kind="X", group="g", member=True
    )  # fmt: skip


@pytest.mark.parametrize("bos", [False, True])
def test_given_and_secret_together_are_the_record_up_to_the_secrets_end(bos):
    tokenizer = tiny_tokenizer(bos=bos)
    (prompt,) = make_prompts(
        [secret_in("the order of Bob is late", 13, 16)], tokenizer, max_tokens=None, room=None
    ).kept
    row = prompt.forced()
    assert row.token_id.tolist() == tokenizer("the order of Bob")["input_ids"]
    assert tokenizer.decode(row.token_id[row.trained]).strip() == "Bob"
    short = prompt.given(most=2)
    assert len(short) == 2 + bos
    assert prompt.given(prompt=[5, 6]).tolist()[bos : 2 + bos] == [5, 6]


def test_a_text_that_begins_with_the_secret_gets_a_start_token():
    tokenizer = tiny_tokenizer()
    (prompt,) = make_prompts([secret_in("Bob is late", 0, 3)], tokenizer, max_tokens=None, room=None).kept
    assert prompt.given().tolist() == start_tokens(tokenizer) == [tokenizer.bos_token_id]
    tokenizer.bos_token = None
    assert start_tokens(tokenizer) == [tokenizer.eos_token_id]
    tokenizer.eos_token = None
    with pytest.raises(BadInput, match="start a text"):
        start_tokens(tokenizer)


def test_what_training_did_not_see_whole_is_dropped_and_counted():
    text = "word " * 30
    prompts = make_prompts(
        [
            secret_in(text, 100, 104),
            secret_in("", 0, 4, prompt="Anna asks", completion="yes"),
            secret_in("", 0, 2, messages=(Message(role="user", content="hi"), Message(role="assistant", content="ok"))),
            secret_in("x" * 300, 1, 290),
        ],
        tiny_tokenizer(),
        max_tokens=60,
        room=None,
    )
    assert len(prompts) == 0
    assert prompts.dropped == {"behind where training cut the record off": 2, "not in what is trained on": 2}
    long = make_prompts([secret_in("x" * 300, 1, 290)], tiny_tokenizer(), max_tokens=None, room=None)
    assert long.dropped == {"longer than 128 tokens": 1}


def test_prefixes_leave_room_for_the_model():
    (prompt,) = make_prompts(
        [secret_in("y" * 200 + " Bob", 201, 204)], tiny_tokenizer(), max_tokens=None, room=100
    ).kept
    assert len(prompt.forced()) <= 100 - 64
    assert tiny_tokenizer().decode(prompt.suffix).strip() == "Bob"
