# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.record import Record
from reticent.data.dedup import drop_near_duplicates, near_duplicates
from reticent.data.dedup.near import grams, near_originals, pairs_alike


def naive(texts: list[str], others: list[str]) -> list[bool]:
    """All pairs, with sets of tuples of words."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}

    def alike(a: set, b: set) -> bool:
        common, smaller = len(a & b), min(len(a), len(b))
        return common / len(a | b) >= 0.5 or (smaller >= 10 and common / smaller >= 0.8)

    return [any(alike(grams(text), grams(other)) for other in others) for text in texts]


def random_texts(rng: np.random.Generator, n: int) -> list[str]:
    """Texts that share long stretches by chance: each is a few cuts of one long tape."""
    tape = rng.integers(0, 60, size=80)
    texts = []
    for _ in range(n):
        cuts = [tape[start : start + rng.integers(3, 30)] for start in rng.integers(0, 70, size=rng.integers(1, 3))]
        texts.append(" ".join(f"w{word}" for word in np.concatenate(cuts)))
    return texts


@pytest.mark.parametrize("seed", range(5))
def test_equals_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    both = random_texts(rng, 100)
    texts, others = both[:60], both[60:]
    found = near_duplicates(texts, others)
    assert found.tolist() == naive(texts, others)
    assert found.any()
    assert not found.all()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("ab ,", max_size=30), min_size=1, max_size=6),
    st.lists(st.text("ab ,", max_size=30), min_size=1, max_size=6),
)
def test_equals_all_pairs_on_short_texts(texts: list[str], others: list[str]) -> None:
    assert near_duplicates(texts, others).tolist() == naive(texts, others)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    both = random_texts(rng, 100)
    texts, others = both[:50], both[50:]
    whole = near_duplicates(texts, others)
    assert whole.any()
    monkeypatch.setattr("reticent.data.dedup.near._BLOCK", 7)
    assert near_duplicates(texts, others).tolist() == whole.tolist()


def test_case_and_punctuation_do_not_matter_but_a_greeting_is_no_duplicate() -> None:
    mail = "Thank you for the quick reply to my question about the broken kettle lid from last week"
    assert near_duplicates([mail.upper().replace(" ", ", ")], [mail]).all()
    assert not near_duplicates(["Thank you for the quick reply"], [mail]).any()
    assert near_duplicates([mail], [f"{mail} {' '.join(f'other{i}' for i in range(100))}"]).all()


def test_nothing_to_compare() -> None:
    assert near_duplicates([], ["x"]).tolist() == []
    assert near_duplicates(["x"], []).tolist() == [False]
    assert near_duplicates(["", "y"], [""]).tolist() == [True, False]


def originals(texts: list[str]) -> list[int]:
    return near_originals([Record(id=str(i), text=text) for i, text in enumerate(texts)]).tolist()


def test_copies_within_one_set_are_those_with_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_texts(np.random.default_rng(3), 60)
    slow = [next((j for j in range(i) if naive([text], [texts[j]])[0]), -1) for i, text in enumerate(texts)]
    assert max(slow) >= 0
    assert originals(texts) == slow
    monkeypatch.setattr("reticent.data.dedup.near._BLOCK", 7)
    assert originals(texts) == slow
    assert originals([]) == []
    assert originals(["x"]) == [-1]


def test_pairs_alike_is_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_texts(np.random.default_rng(4), 40)
    a, b = (found.ravel() for found in np.meshgrid(np.arange(40), np.arange(40)))
    slow = [naive([texts[i]], [texts[j]])[0] for i, j in zip(a, b, strict=True)]
    monkeypatch.setattr("reticent.data.dedup.near._PAIRS", 100)
    assert pairs_alike(grams(texts), a, b).tolist() == slow


def test_a_copy_is_one_as_a_whole_and_in_what_is_trained_on() -> None:
    """With the same prompt and the same completion, but never both of the same earlier record."""
    question, answer = (" ".join(f"{letter}{i}" for i in range(30)) for letter in "qa")
    parts = [(question, "one"), ("two", answer), (question, answer), (question, answer)]
    records = [Record(id=str(i), prompt=prompt, completion=completion) for i, (prompt, completion) in enumerate(parts)]
    assert near_originals(records).tolist() == [-1, -1, 1, 1]
    short = [Record(id=str(i), prompt=f"question {i} on topic {i * 7}", completion="yes") for i in range(3)]
    assert drop_near_duplicates(short).dropped == ()


LETTER = "我星期一订的包裹到现在还没有送到打电话到店里也没有人接所以请再寄一个给我或者在月底之前把钱退给我"
PAIRS = {
    "Chinese": (LETTER, LETTER.replace("星期一", "星期二")),
    "Chinese with signs": ("，".join(LETTER[i : i + 9] for i in range(0, 45, 9)), LETTER[:45]),
    "Japanese": (
        "月曜日に注文した荷物がまだ届きません。返金してください。",
        "火曜日に注文した荷物がまだ届きません。返金してください。",
    ),
    "Thai": ("พัสดุที่สั่งวันจันทร์ยังไม่มาถึงกรุณาคืนเงินด้วย", "พัสดุที่สั่งวันศุกร์ยังไม่มาถึงกรุณาคืนเงินด้วย"),
    "half and full width": ("ＡＢＣ １２３ ｶﾞｽが止まりました", "abc 123 ガスが止まりました"),
    "accents apart": (
        "le café fermé a été déplacé là",
        "le cafe\u0301 ferme\u0301 a e\u0301te\u0301 de\u0301place\u0301 la\u0300",
    ),
    "emoji": ("👍🙏🎉🚚📦😡", "👍🙏🎉🚚📦😡"),
}
UNLIKE = {
    "Chinese": (LETTER, "医生说我的血压太高了每天要吃两次药还要少吃盐多走路下个月再来看一次"),
    "emoji": ("👍", "😡"),
    "Thai": ("พัสดุที่สั่งวันจันทร์ยังไม่มาถึง", "หมอบอกว่าความดันสูงเกินไปต้องกินยาทุกวัน"),
}


@pytest.mark.parametrize("language", PAIRS)
def test_near_duplicates_in_scripts_without_blanks(language: str) -> None:
    first, second = PAIRS[language]
    assert near_duplicates([first], [second]).tolist() == [True]
    both = [Record(id="a", text=first), Record(id="b", text=second)]
    assert [record.id for record in drop_near_duplicates(both).records] == ["a"]


@pytest.mark.parametrize("language", UNLIKE)
def test_other_texts_without_blanks_are_no_near_duplicates(language: str) -> None:
    first, second = UNLIKE[language]
    assert near_duplicates([first], [second]).tolist() == [False]
