# SPDX-License-Identifier: Apache-2.0
"""Grams that many texts hold are counted by groups, and nothing comes out otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.data.dedup import near
from reticent.data.dedup.boilerplate import grouped
from reticent.data.dedup.near import grams, near_duplicates


def mails(rng: np.random.Generator, count: int, *, cut: bool = False) -> list[str]:
    """Texts of 0 to 60 words, some about the same, most with one of two disclaimers, whole or cut short."""
    words = [f"w{number}" for number in range(40)]
    disclaimers = [[f"{name}{number}" for number in range(30)] for name in "dn"]
    texts = []
    for _ in range(count):
        body = list(rng.choice(words[: rng.choice([4, 40])], size=rng.integers(0, 60)))
        end = [] if rng.random() < 0.2 else disclaimers[rng.integers(2)]
        start = rng.integers(0, 20) if cut and end else 0
        texts.append(" ".join([*body, *end[start:]]))
    return texts


@pytest.mark.parametrize("matches", [0, 1, 30])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut short"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_listing_all_pairs(seed: int, cut: bool, matches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    texts, others = mails(rng, 120, cut=cut), mails(rng, 90, cut=cut)
    monkeypatch.setattr(near, "grouped", lambda left, right: None)
    listed = near_duplicates(texts, others)
    made = []
    monkeypatch.setattr(near, "grouped", lambda a, b: made.append(grouped(a, b, matches_a_text=matches)) or made[-1])
    assert near_duplicates(texts, others).tolist() == listed.tolist()
    assert made[0] is not None
    assert 0 < listed.sum() < len(texts)


def test_few_texts_are_not_grouped() -> None:
    both = grams(mails(np.random.default_rng(0), 100))
    assert grouped(both[:50], both[50:]) is None


def test_grams_that_are_cut_in_too_many_ways_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    both = grams(mails(np.random.default_rng(0), 200, cut=True))
    monkeypatch.setattr("reticent.data.dedup.boilerplate.MOST_GROUP_PAIRS", 0)
    assert grouped(both[:100], both[100:], matches_a_text=0) is None
    monkeypatch.setattr("reticent.data.dedup.boilerplate.MOST_GROUP_PAIRS", 9)
    few = grouped(both[:100], both[100:], matches_a_text=0)
    assert few is not None
    assert few.shared.size <= 9


def test_a_disclaimer_makes_no_pairs() -> None:
    """What is listed does not grow with the square of the texts that carry one disclaimer."""
    disclaimer = " ".join(f"d{number}" for number in range(40))
    texts = [" ".join([*(f"u{place}x{number}" for number in range(30)), disclaimer]) for place in range(1200)]
    both = grams(texts)
    groups = grouped(both[:600], both[600:])
    assert groups is not None
    assert not any(len(rows) for rows, _ in near._alike(both[:600], both[600:], groups))
    rare = both[:, ~groups.common]
    assert (rare[:600] @ rare[600:].T).nnz == 0
