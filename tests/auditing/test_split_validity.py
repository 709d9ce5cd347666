# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from reticent.auditing.split_validity import MAX_TEXTS, check, widened
from reticent.core.finding import Estimate
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.example import help_desk
from reticent.data.split import from_files, split

MAILS = help_desk(users=80, mails_per_user=8)


@pytest.mark.parametrize("unit", ["record", "user"])
def test_a_split_by_coin_is_not_separable(unit: str) -> None:
    confound = check(MAILS, split(MAILS, unit=unit, seed=1))
    assert not confound.separable
    assert confound.blind_auc is not None
    assert confound.blind_auc.lo < 0.5 < confound.blind_auc.hi
    assert confound.near_duplicate_share is not None
    assert confound.near_duplicate_share.value < 0.02
    assert ("users" in confound.note) == (unit == "user")


def test_later_members_are_confounded() -> None:
    dated = [replace(mail, text=f"{2020 + (number % 2)} {mail.text}", spans=()) for number, mail in enumerate(MAILS)]
    confound = check([*dated[::2], *dated[1::2]], from_files(dated[::2], dated[1::2]))
    assert confound.separable
    assert confound.blind_auc is not None
    assert confound.blind_auc.value > 0.95


def test_users_who_differ_as_a_kind_are_confounded() -> None:
    coins = split(MAILS, unit="user", seed=0)
    formal = [
        replace(mail, text=f"{mail.text} kindly revert", spans=()) if inside else mail
        for mail, inside in zip(MAILS, coins.user_member, strict=True)
    ]
    confound = check(formal, coins)
    assert confound.separable
    assert confound.blind_auc is not None
    assert confound.blind_auc.value > 0.85


def test_near_duplicates_are_counted_among_evaluated_rows() -> None:
    members = [replace(mail, id=f"m{mail.id}") for mail in MAILS[:100]]
    copies = [replace(mail, id=f"h{mail.id}", text=f"{mail.text} bye", spans=()) for mail in MAILS[:40]]
    records = [*members, *copies, *MAILS[100:200]]
    confound = check(records, from_files(members, records[100:], known_fraction=0))
    assert confound.near_duplicates >= 40
    assert confound.near_duplicate_share is not None
    assert confound.near_duplicate_share.value == confound.near_duplicates / 100
    membership = from_files(members, records[100:], known_fraction=0.9, seed=1)
    n = int(((membership.role == "evaluate") & membership.member).sum())
    few = check(records, membership)
    assert few.near_duplicate_share is not None
    assert few.near_duplicate_share.n == n
    assert few.near_duplicates <= n


def test_too_few_to_say() -> None:
    records = [Record(id=str(number), text=f"text number {number}") for number in range(30)]
    confound = check(records, from_files(records[:15], records[15:]))
    assert confound.blind_auc is None
    assert not confound.separable
    assert "could not be checked" in confound.note


def test_many_texts_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_TEXTS >= 10_000
    monkeypatch.setattr("reticent.auditing.split_validity.MAX_TEXTS", 200)
    plain = [replace(mail, user=None) for mail in MAILS]
    confound = check(plain, split(plain, unit="record", seed=0))
    assert confound.blind_auc is not None
    assert confound.blind_auc.n == 200


def test_widened_keeps_the_value_and_is_root_two_wider() -> None:
    before = Estimate(value=0.6, lo=0.5, hi=0.7, n=9, method="m")
    after = widened(before)
    assert after.value == 0.6
    for end, was in ((after.lo, 0.5), (after.hi, 0.7)):
        assert np.isclose(logit(end) - logit(0.6), 2**0.5 * (logit(was) - logit(0.6)))
    certain = Estimate(value=1.0, lo=0.9, hi=1.0, n=9, method="m")
    assert widened(certain) == certain


def test_interval_covers_chance_over_many_coins() -> None:
    rng = np.random.default_rng(0)
    texts = [
        Record(id=str(number), text=" ".join(f"w{word}" for word in rng.integers(0, 50, size=12)))
        for number in range(150)
    ]
    wide = []
    for seed in range(20):
        confound = check(texts, split(texts, unit="record", seed=seed), confidence=0.8)
        assert confound.blind_auc is not None
        wide.append(confound.blind_auc.lo <= 0.5 <= confound.blind_auc.hi)
    # binomial(20, 0.8) is 12 or fewer with probability 0.03
    assert sum(wide) >= 13


def lists(inside: list[str], outside: list[str]) -> tuple[list[Record], Membership]:
    records = [
        Record(id=f"{side}{n}", text=text)
        for side, texts in (("m", inside), ("h", outside))
        for n, text in enumerate(texts)
    ]
    return records, from_files(records[: len(inside)], records[len(inside) :], known_fraction=0)


def test_a_chinese_list_of_another_subject_is_confounded() -> None:
    rng = random.Random(0)
    first, second, shared = "退款台灯坏了水壶包裹", "医生发烧药片护士病房", "请您今天这个我的一起又是从前"
    inside, outside = ([("".join(rng.choices(words + shared, k=30))) for _ in range(60)] for words in (first, second))
    confound = check(*lists(inside, outside))
    assert confound.separable
    assert confound.no_claim
    assert not confound.unchecked
    assert "characters and pairs of characters (a script without blanks)" in confound.note


@pytest.mark.parametrize("language", ["今天的包裹还没有到请退款", "本日の荷物がまだ届きません", "วันนี้พัสดุยังไม่มา"])
def test_near_duplicates_are_found_without_blanks(language: str) -> None:
    rng = random.Random(1)
    texts = ["".join(rng.choices(language, k=60)) for _ in range(25)]
    changed = [text[:30] + ("x" if text[30] != "x" else "y") + text[31:] for text in texts[:10]]
    others = ["".join(rng.choices(language, k=60)) for _ in range(15)]
    assert check(*lists(texts, [*changed, *others])).near_duplicates == 10


def test_lists_that_cannot_be_checked_carry_no_claim() -> None:
    few = [f"text number {number}" for number in range(15)]
    confound = check(*lists(few, [f"text number {number}" for number in range(15, 30)]))
    assert confound.unchecked
    assert confound.no_claim
    unlike = [chr(0x4E00 + 7 * number) * 5 for number in range(80)]
    unread = check(*lists(unlike[:40], unlike[40:]))
    assert unread.blind_auc is None
    assert unread.unchecked
    assert "100 % of the texts share next to nothing with others" in unread.note


def test_coins_need_no_check() -> None:
    records = [Record(id=str(number), text=f"text number {number}") for number in range(30)]
    assert not check(records, split(records, unit="record", seed=0)).no_claim
