# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.data.dedup import near_copies, near_duplicates


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


def test_copies_within_one_set_are_those_with_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_texts(np.random.default_rng(3), 60)
    slow = [any(naive([text], texts[:i])) for i, text in enumerate(texts)]
    assert any(slow)
    assert near_copies(texts).tolist() == slow
    monkeypatch.setattr("reticent.data.dedup.near._BLOCK", 7)
    assert near_copies(texts).tolist() == slow
    assert near_copies([]).tolist() == []
