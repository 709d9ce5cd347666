# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from reticent.data.blind_baseline import blind_scores
from reticent.data.example import help_desk

MAILS = help_desk(users=60, mails_per_user=5)
TEXTS = [mail.plain for mail in MAILS]
USERS = [str(mail.user) for mail in MAILS]


def auc(score: np.ndarray, member: np.ndarray) -> float:
    """By all pairs."""
    ahead = score[member][:, None] - score[~member][None, :]
    return float(((ahead > 0) + 0.5 * (ahead == 0)).mean())


def coin(seed: int, n: int = len(TEXTS)) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < 0.5


def test_chance_on_average_without_a_signal() -> None:
    texts, users = TEXTS[:150], USERS[:150]
    aucs = [auc(blind_scores(texts, coin(seed, 150), users).score, coin(seed, 150)) for seed in range(10)]
    # one AUC has a standard error of about 0.07
    assert 0.42 < np.mean(aucs) < 0.55


def test_one_word_gives_members_away() -> None:
    member = coin(1)
    texts = [f"{text} notwithstanding" if inside else text for text, inside in zip(TEXTS, member, strict=True)]
    assert auc(blind_scores(texts, member, USERS).score, member) > 0.9


def test_length_alone_gives_members_away() -> None:
    member = coin(2)
    texts = [" ".join(["same"] * (30 if inside else 20)) for inside in member]
    assert auc(blind_scores(texts, member).score, member) > 0.95


def test_users_are_not_memorised() -> None:
    names = np.unique(USERS)
    inside = dict(zip(names.tolist(), coin(3, len(names)).tolist(), strict=True))
    member = np.array([inside[user] for user in USERS])
    knowing, fair = blind_scores(TEXTS, member), blind_scores(TEXTS, member, USERS)
    assert (knowing.grouped, fair.grouped) == (False, True)
    assert auc(knowing.score, member) > 0.75
    assert auc(fair.score, member) < 0.62


def test_with_few_users_folds_are_of_texts() -> None:
    users = ["a" if index < 150 else "b" for index in range(300)]
    assert not blind_scores(TEXTS, coin(4), users).grouped


def test_same_seed_same_scores() -> None:
    member = coin(5)
    first, second = (blind_scores(TEXTS, member, USERS, seed=1).score for _ in range(2))
    assert first.tolist() == second.tolist()


def test_texts_without_a_word_in_common_are_told_by_their_lengths() -> None:
    """No word is in three texts, so there are no words to learn from."""
    member = np.arange(80) % 2 == 0
    texts = [f"{'longer' if inside else 'w'}{number}x" for number, inside in enumerate(member)]
    score = blind_scores(texts, member).score
    assert score[member].mean() > score[~member].mean() + 1
    same = blind_scores([f"w{number:03d}x" for number in range(80)], member).score
    assert np.isfinite(same).all()


SUBJECTS = {
    "Chinese": ("退款 台灯 坏了 水壶 包裹", "医生 发烧 药片 护士 病房", "请您 今天 这个 我的 一起 又是", ""),
    "Chinese with blanks and signs": ("退款 台灯 坏了", "医生 发烧 药片", "请您， 今天 这个。 我的！", " "),
    "Japanese": (
        "返金 ランプ やかん 荷物 ねじ",
        "医者 発熱 錠剤 看護師 インスリン",
        "お願い 今日 これは わたしの また",
        "",
    ),
    "half-width kana": ("ﾗﾝﾌﾟ ﾔｶﾝ ﾆﾓﾂ", "ｲｼｬ ﾈﾂ ｸｽﾘ", "ｷｮｳ ｺﾚﾊ ﾏﾀ", ""),
    "Thai": ("คืนเงิน โคมไฟ กาน้ำ พัสดุ", "หมอ ไข้ ยาเม็ด พยาบาล", "กรุณา วันนี้ อันนี้ ของฉัน", ""),
    "Khmer": ("ចង្កៀង ខូច កំសៀវ", "គ្រុន ថ្នាំ បន្ទប់", "សូម ថ្ងៃនេះ នេះ", ""),
    "Chinese and English": ("退款 lamp 坏了 kettle", "医生 fever 药片 nurse", "请您 today 这个 mine", ""),
    "English without blanks": ("refund lamp kettle parcel", "doctor fever pills nurse", "please today this mine", ""),
    "Korean without blanks": ("환불 램프 주전자 소포", "의사 발열 알약 간호사", "부탁 오늘 이것 나의", ""),
    "Hindi": ("वापसी दीपक टूटा केतली", "डॉक्टर बुखार गोलियाँ नर्स", "कृपया आज यह मेरा", " "),
    "emoji": ("🪔 🫖 📦 🪑", "🩺 💊 🤒 🏥", "🙏 📅 👍 🔁", ""),
    "English": ("refund lamp kettle parcel", "doctor fever pills nurse", "please today this mine", " "),
}
"""Words of one subject, of another, of both, and what stands between words."""


def told(language: str, *, seed: int, n: int = 40) -> tuple[list[str], list[str]]:
    """Texts of one subject and of the other."""
    rng = np.random.default_rng(seed)
    one, other, both, between = SUBJECTS[language]
    common = both.split()

    def text(own: list[str]) -> str:
        return between.join(str(rng.choice(own if rng.random() < 0.4 else common)) for _ in range(20))

    return [text(one.split()) for _ in range(n)], [text(other.split()) for _ in range(n)]


@pytest.mark.parametrize("language", SUBJECTS)
def test_another_subject_is_seen_in_every_language(language: str) -> None:
    inside, outside = told(language, seed=0)
    member = np.arange(80) < 40
    found = blind_scores([*inside, *outside], member)
    assert auc(found.score, member) > 0.97
    assert found.unread <= 0.05


@pytest.mark.parametrize("language", ["Chinese", "Thai", "English without blanks", "emoji"])
def test_coins_are_not_seen_in_any_language(language: str) -> None:
    """Two subjects, and coins that know nothing of them."""
    texts = [text for side in told(language, seed=1) for text in side]
    aucs = [auc(blind_scores(texts, coin(seed, 80)).score, coin(seed, 80)) for seed in range(6)]
    # the mean of six has a standard error of about 0.04, and cross-validation is a little below chance
    assert 0.38 < np.mean(aucs) < 0.6


def test_what_was_read_is_told() -> None:
    def read(language: str) -> str:
        inside, outside = told(language, seed=2)
        return blind_scores([*inside, *outside], np.arange(80) < 40).read

    assert read("English") == "words and pairs of words"
    assert read("Chinese") == "characters and pairs of characters (a script without blanks)"
    assert "single characters in scripts without blanks (" in read("Chinese and English")
    assert read("English without blanks") == "words and pairs of words, and runs of one to three characters"


def test_texts_that_share_no_character_are_unread() -> None:
    texts = [chr(0x4E00 + 7 * number) * 5 for number in range(80)]
    found = blind_scores(texts, np.arange(80) % 2 == 0)
    assert found.unread == 1
    assert np.isfinite(found.score).all()
