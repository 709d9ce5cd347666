# SPDX-License-Identifier: Apache-2.0
"""ROUGE-L by hand, against a table of subsequences, and on texts that its usual words do not see."""

from __future__ import annotations

import random

import pytest

from reticent.core.errors import BadInput
from reticent.unlearning.benchmarks.rouge import (
    RougeL,
    is_other_script,
    longest_common_subsequence,
    rouge_l,
    rouge_l_f,
    rouge_l_recall,
)


def by_table(a, b):
    """Twin: the textbook table."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@pytest.mark.parametrize("seed", range(30))
def test_subsequences_are_those_of_the_table(seed):
    rng = random.Random(seed)
    a, b = (rng.choices("abcdefgh"[: rng.randint(1, 8)], k=rng.randint(0, 150)) for _ in range(2))
    assert longest_common_subsequence(a, b) == by_table(a, b)


# Made by rouge-score 0.1.2, which agrees on 6,685 pairs of TOFU's answers, with stemming and without.
GOLDEN = [
    ("The author's full name is Jaime Vasquez.", "jaime vasquez is the author", True, (0.4, 0.25, 4 / 13)),
    ("He was writing stories", "He writes a story", True, (0.75, 0.75, 0.75)),
    ("He was writing stories", "He writes a story", False, (0.25, 0.25, 0.25)),
    ("It's 5 o'clock", "its 5 oclock", False, (1 / 3, 0.2, 0.25)),
    ("a café in Köln", "a cafe in Koln", False, (0.5, 0.4, 4 / 9)),
    ("", "nothing", True, (0.0, 0.0, 0.0)),
    ("something", "", True, (0.0, 0.0, 0.0)),
    ("!!!", "!!!", True, (0.0, 0.0, 0.0)),
    ("one two three four", "four three two one", False, (0.25, 0.25, 0.25)),
]


@pytest.mark.parametrize(("reference", "text", "stem", "expected"), GOLDEN)
def test_golden_values(reference, text, stem, expected):
    assert rouge_l(reference, text, stem=stem) == pytest.approx(expected)


def test_other_scripts_are_judged_by_their_words():
    assert rouge_l("Он родился в Москве в 1956", "Он родился в Киеве в 1956", stem=True).recall == pytest.approx(5 / 6)
    assert rouge_l("他在北京出生", "他在上海出生", stem=False).f == pytest.approx(4 / 6)
    assert rouge_l("Москва 1956", "1956", stem=False).recall == 0.5
    assert rouge_l("Ångström", "Angstrom", stem=False) == RougeL(0.0, 0.0, 0.0)


def test_which_texts_are_of_another_script():
    assert not is_other_script("Gabriel García Márquez")
    assert not is_other_script("12345 !?")
    assert not is_other_script("…")
    assert is_other_script("Ελλάδα and")
    assert not is_other_script("the Greek word λόγος stands here")


def test_recall_and_f_of_many():
    references, texts = ["a b c d", "a b"], ["a b", "a b c d"]
    assert rouge_l_recall(references, texts).tolist() == [0.5, 1.0]
    assert rouge_l_f(references, texts).tolist() == pytest.approx([2 / 3, 2 / 3])
    with pytest.raises(BadInput):
        rouge_l_f(references, texts[:1])


def test_a_long_text_is_quick():
    words = [str(number) for number in range(4000)]
    assert rouge_l(" ".join(words), " ".join(words[::2]), stem=False).recall == 0.5
