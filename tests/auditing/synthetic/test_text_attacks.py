# SPDX-License-Identifier: Apache-2.0
"""Attacks that read synthetic text alone: the fast ways against naive ones, power, null data, a planted fault."""

from __future__ import annotations

import random

import numpy as np
import pytest

from reticent.auditing.synthetic.likeness import likeness_scores, naive_likeness_scores, nearest_shares
from reticent.auditing.synthetic.own_words import naive_own_runs_told, own_runs_told, own_values_told
from reticent.auditing.synthetic.text_pairs import (
    cut,
    naive_pair_gain,
    naive_pair_scores,
    pair_gain,
    pair_scores,
    secret_scores,
)
from reticent.core.record import Record, Span
from reticent.data.canaries.passphrase import WORDS
from reticent.stats.rank_test import lower_p

SEEDS = range(4)


def texts(seed: int, count: int, words: int = 9, vocabulary: int = 12) -> list[list[str]]:
    """Random texts of few words, some of them empty."""
    rng = random.Random(seed)
    return [rng.choices(WORDS[:vocabulary], k=rng.choice((0, 1, words))) for _ in range(count)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fast_ways_are_the_naive_ones(seed: int) -> None:
    records, synthetic = texts(seed, 14), texts(seed + 100, 11)
    unit = [f"u{number % 5}" for number in range(14)]
    np.testing.assert_allclose(pair_scores(records, synthetic), naive_pair_scores(records, synthetic))
    np.testing.assert_allclose(
        pair_gain(records, synthetic, records, unit, unit), naive_pair_gain(records, synthetic, records, unit, unit)
    )
    for nearest in (1, 3, 25):
        np.testing.assert_allclose(
            likeness_scores(records, synthetic, nearest=nearest),
            naive_likeness_scores(records, synthetic, nearest=nearest),
        )
    told = own_runs_told(records, unit, synthetic, length=2)
    assert told == naive_own_runs_told(records, unit, synthetic, length=2)


def test_a_secret_is_scored_behind_the_words_that_lead_to_it() -> None:
    secrets = [("my code is", "plum otter"), ("my code is", "otter plum")]
    told, other = secret_scores(secrets, cut(["Yes, my code is plum otter."] * 2))
    assert told > other
    assert told == pytest.approx(np.log((2 + 1) / (2 + 6)))  # both pairs twice, among six words
    assert len(secret_scores([], cut(["a"]))) == 0


def test_equally_near_texts_are_shared_whatever_their_order() -> None:
    shares = nearest_shares([["a", "b"]], [["a", "b"], ["c"], ["b", "a"]])
    assert shares.tolist() == [0.5, 0.0, 0.5]


def test_what_two_people_have_is_nobodys_own_and_only_counted_texts_count() -> None:
    words = [["a", "b"], ["c", "d"], ["a", "b"], ["e", "f"]]
    owner = ["ana", "ana", "ben", "ben"]
    synthetic = [["a", "b", "x", "c", "d", "x", "e", "f"]]
    assert own_runs_told(words, owner, synthetic, length=2) == {"ana": 1, "ben": 1}
    counted = [True, False, True, True]
    assert own_runs_told(words, owner, synthetic, counted=counted, length=2) == {"ana": 0, "ben": 1}


def test_personal_data_counts_at_borders_of_words_in_any_spelling() -> None:
    mail = Record(id="1", text="I am Ana Polk", spans=(Span(start=5, end=13, kind="PERSON"),))
    assert own_values_told([mail], ["ana"], cut(["says ANA  polk."])) == {"ana": 1}
    assert own_values_told([mail], ["ana"], cut(["says Diana Polka."])) == {"ana": 0}


def coins(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < 0.5


def test_of_text_made_from_others_records_nothing_is_said_more_often_than_the_error() -> None:
    """Coins thrown 200 times: 5 % of tests at most find something, 9.6 % being three standard errors above it. A model
    of held-out records alone in place of all others is a planted fault: it finds a leak where there is none."""
    records, synthetic = texts(0, 40), texts(1, 30)
    unit = [str(number) for number in range(40)]
    scores = {
        "gain": pair_gain(records, synthetic, records, unit, unit),
        "pairs": pair_scores(records, synthetic),
        "likeness": likeness_scores(records, synthetic),
        "nearest": nearest_shares(synthetic, records),
    }
    found = dict.fromkeys(scores, 0)
    for seed in range(200):
        member = coins(seed, 40)
        for name, score in scores.items():
            found[name] += lower_p(-score[member], -score[~member]) <= 0.05
    assert max(found.values()) <= 0.096 * 200
    wrong = 0
    for seed in range(40):
        member = coins(seed, 40)
        out = [words for words, inside in zip(records, member, strict=True) if not inside]
        score = pair_gain(records, synthetic, out, unit, [f"of {number}" for number in range(len(out))])
        wrong += lower_p(-score[member], -score[~member]) <= 0.05
    assert wrong > 20


def test_text_that_copies_members_is_caught_by_each_attack() -> None:
    rng = random.Random(3)
    records = [rng.choices(WORDS, k=12) for _ in range(60)]
    member = coins(5, 60)
    copied = [words[:9] for words, inside in zip(records, member, strict=True) if inside][::2]
    synthetic = [*copied, *(rng.choices(WORDS, k=12) for _ in range(40))]
    unit = [str(number) for number in range(60)]
    told = own_runs_told(records, unit, synthetic)
    for score in (
        pair_gain(records, synthetic, records, unit, unit),
        pair_scores(records, synthetic),
        likeness_scores(records, synthetic),
        nearest_shares(synthetic, records),
        np.array([told[name] for name in unit]),
    ):
        assert lower_p(-score[member], -score[~member]) < 0.01
