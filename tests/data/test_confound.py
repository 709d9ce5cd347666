# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from reticent.data.confound import blind_scores
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
