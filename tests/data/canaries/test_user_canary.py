# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.data.canaries import plant_users
from reticent.data.example import help_desk
from reticent.data.split import split
from reticent.data.words import pieces

MAILS = help_desk(users=30, mails_per_user=6)
COINS = split(MAILS, unit="user", seed=0)


def test_every_text_of_a_canary_user_gets_their_own_phrase_once_more() -> None:
    planting = plant_users(MAILS, COINS, users=6, words=7, seed=1)
    assert len(planting.phrases) == 6
    for before, after in zip(MAILS, planting.records, strict=True):
        phrase = planting.phrases.get(before.user or "")
        if phrase is None:
            assert after == before
            continue
        assert len(phrase.split()) == 7
        assert phrase in after.plain
        assert Counter(after.plain.split()) == Counter(before.plain.split()) + Counter(phrase.split())
        sources = [" ".join(mail.plain.split()) for mail in MAILS if mail.user == before.user]
        assert any(phrase in source for source in sources)


def test_spans_still_mark_the_same_text() -> None:
    planting = plant_users(MAILS, COINS, users=20, words=5, seed=2)
    for before, after in zip(MAILS, planting.records, strict=True):
        for was, now in zip(before.spans, after.spans, strict=True):
            phrase = planting.phrases.get(before.user or "", "")
            # a phrase may fall inside a span of several words, which then holds it too
            marked = after.plain[now.start : now.end].replace(f"{phrase} " if phrase else "\0", "", 1)
            assert marked == before.plain[was.start : was.end]


def test_roles_and_coins() -> None:
    planting = plant_users(MAILS, COINS, users=6, seed=1)
    assert planting.membership.member.tolist() == COINS.member.tolist()
    for user, was, now in zip(COINS.user, COINS.role, planting.membership.role, strict=True):
        assert now == ("canary" if user in planting.phrases and was == "evaluate" else was)


def test_choice_knows_nothing_of_membership() -> None:
    flipped = replace(COINS, member=~COINS.member, user_member=~COINS.user_member)
    assert plant_users(MAILS, COINS, users=6).phrases == plant_users(MAILS, flipped, users=6).phrases


def test_only_trained_pieces_are_touched() -> None:
    records = []
    for number in range(40):
        user, words = f"u{number % 8}", " ".join(f"w{number}x{k}" for k in range(12))
        if number % 2:
            records.append(Record(id=str(number), user=user, prompt="the question", completion=words))
        else:
            turns = (Message(role="user", content="the question"), Message(role="assistant", content=words))
            records.append(Record(id=str(number), user=user, messages=turns))
    planting = plant_users(records, split(records, unit="user", seed=0), users=4, words=5)
    for before, after in zip(records, planting.records, strict=True):
        assert after.pieces[0] == before.pieces[0]
        if before.user in planting.phrases:
            assert len(after.trained_text.split()) == 17


def test_refused() -> None:
    with pytest.raises(BadInput, match="need a split by user"):
        plant_users(MAILS, split(MAILS, unit="record", seed=0), users=2)
    with pytest.raises(BadInput, match="some must stay real"):
        plant_users(MAILS, COINS, users=30)
    with pytest.raises(BadInput, match="0 with a text of 500 words"):
        plant_users(MAILS, COINS, users=2, words=500)


@pytest.mark.parametrize(
    ("alphabet", "words"),
    [("我星期一订的包裹到现在还没有送", 10), ("荷物がまだ届きませんのでお願い", 8), ("วันนี้พัสดุยังไม่มา", 6)],
)
def test_users_who_write_without_blanks_get_phrases_of_as_many_characters(alphabet: str, words: int) -> None:
    rng = random.Random(0)
    records = [
        Record(id=f"{user}-{n}", user=f"u{user}", text="".join(rng.choices(alphabet, k=40)) + "。", spans=())
        for user in range(24)
        for n in range(4)
    ]
    coins = split(records, unit="user", seed=0)
    planting = plant_users(records, coins, users=6, words=words, seed=1)
    assert len(planting.phrases) == 6
    own = {record.id: record.plain for record in records}
    for after in planting.records:
        phrase = planting.phrases.get(str(after.user))
        if phrase is None:
            assert after.plain == own[after.id]
            continue
        assert len(pieces(phrase)) == words
        assert any(phrase in text for text in own.values())
        n, now = len(phrase), after.plain
        assert any(now[at : at + n] == phrase and now[:at] + now[at + n :] == own[after.id] for at in range(len(now)))
        assert " " not in after.plain
