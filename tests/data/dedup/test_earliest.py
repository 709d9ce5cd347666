# SPDX-License-Identifier: Apache-2.0
"""The first earlier record that is alike is the one that a look at all pairs finds, however many share boilerplate."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.record import Record
from reticent.data.dedup import boilerplate, near
from reticent.data.dedup.near import MIN_CONTAINED, grams, near_originals


def sets_of(texts: list[str]) -> list[set[tuple[str, ...]]]:
    of_texts = [text.split() for text in texts]
    return [{tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))} for words in of_texts]


def sets_alike(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> bool:
    common, smaller = len(a & b), min(len(a), len(b))
    return common / len(a | b) >= 0.5 or (smaller >= 10 and common / smaller >= 0.8)


def naive(records: list[Record]) -> list[int]:
    """All pairs, by sets, in both respects."""
    whole, trained = sets_of([record.plain for record in records]), sets_of([record.trained_text for record in records])
    return [
        next((b for b in range(a) if sets_alike(whole[a], whole[b]) and sets_alike(trained[a], trained[b])), -1)
        for a in range(len(records))
    ]


def words(rng: np.random.Generator, most: int, *, names: int = 40) -> list[str]:
    return [f"w{number}" for number in rng.integers(0, rng.choice([4, names]), size=rng.integers(1, most))]


def piece(rng: np.random.Generator, name: str, *, cut: bool) -> list[str]:
    """Boilerplate: whole, or from a random word on."""
    every = [f"{name}{number}" for number in range(30)]
    return every[rng.integers(0, 25) if cut else 0 :]


def mails(rng: np.random.Generator, count: int, *, cut: bool) -> list[Record]:
    """Most end with one of two disclaimers, and some are nothing else."""
    texts = [
        [*(words(rng, 60) if rng.random() < 0.8 else []), *(piece(rng, "dn"[rng.integers(2)], cut=cut))]
        for _ in range(count)
    ]
    return [Record(id=str(place), text=" ".join(text)) for place, text in enumerate(texts)]


def answers(rng: np.random.Generator, count: int, *, cut: bool) -> list[Record]:
    """Prompts of a template and a question; answers that are stock phrases, short words, or written anew."""
    records = []
    for place in range(count):
        prompt = [*piece(rng, "pq"[rng.integers(2)], cut=cut), *words(rng, 12)]
        stock, written = piece(rng, "st"[rng.integers(2)], cut=cut), words(rng, 30)
        answer = [["yes"], stock, written, [*stock, *written]][rng.integers(4)]
        records.append(Record(id=str(place), prompt=" ".join(prompt) + "\n", completion=" ".join(answer)))
    return records


@pytest.mark.parametrize("matches", [0, 1, 20])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut short"])
@pytest.mark.parametrize("make", [mails, answers])
@pytest.mark.parametrize("seed", range(3))
def test_equals_all_pairs(make: object, seed: int, cut: bool, matches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boilerplate, "MATCHES_A_TEXT", matches)
    monkeypatch.setattr(boilerplate, "MOST_GROUP_PAIRS", [4_000_000, 900, 30][seed])
    records = make(np.random.default_rng(seed), 90, cut=cut)  # type: ignore[operator]
    slow = naive(records)
    assert near_originals(records).tolist() == slow
    assert -1 in slow[1:]
    assert max(slow) > 0


def test_the_groups_and_the_lists_are_both_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in either shows, so the comparison with all pairs is a test of both."""
    monkeypatch.setattr(boilerplate, "MATCHES_A_TEXT", 20)
    letter = " ".join(f"letter{number}" for number in range(30))
    records = mails(np.random.default_rng(5), 90, cut=False)
    records += [Record(id="a", text=letter), Record(id="b", text=f"{letter} again")]
    whole = near_originals(records).tolist()
    assert whole == naive(records)
    with monkeypatch.context() as broken:
        broken.setattr(near, "earliest", lambda *_, **__: np.full(len(records), len(records)))
        assert near_originals(records).tolist() != whole
    monkeypatch.setattr(near, "_note_listed", lambda *_: None)
    assert near_originals(records).tolist() != whole


def test_of_texts_on_one_side_of_the_least_size_the_smaller_ones_are_alike() -> None:
    """What the tables rest on, for all numbers of grams up to 40."""
    for shared in range(1, 41):
        own, size = np.meshgrid(np.arange(shared, 41), np.arange(shared, 41), indexing="ij")
        alike = near._rule(np.full_like(own, shared), own, size)
        for side in (size[0] < MIN_CONTAINED, size[0] >= MIN_CONTAINED):
            assert (np.diff(alike[:, side].astype(int), axis=1) <= 0).all()


def test_groups_of_two_respects_stay_few_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boilerplate, "MATCHES_A_TEXT", 0)
    monkeypatch.setattr(boilerplate, "MOST_GROUP_PAIRS", 100)
    records = answers(np.random.default_rng(0), 200, cut=True)
    respects = [grams([record.plain for record in records]), grams([record.trained_text for record in records])]
    both = [group for group in near.groups_of(respects) if group is not None]
    assert len(both) == 2
    assert len(set(zip(both[0].left.tolist(), both[1].left.tolist(), strict=True))) <= 10


def test_boilerplate_makes_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twice the records with one disclaimer, or with one long prompt and few answers, about twice the pairs."""

    def pairs(records: list[Record]) -> int:
        listed = 0
        plain = near._alike

        def counted(left: object, right: object, groups: object) -> object:
            nonlocal listed
            for row, column in plain(left, right, groups):  # type: ignore[arg-type]
                listed += len(row)
                yield row, column

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(near, "_alike", counted)
            near_originals(records)
        return listed

    monkeypatch.setattr(boilerplate, "MATCHES_A_TEXT", 8)
    prompt, disclaimer = (" ".join(f"{name}{number}" for number in range(60)) for name in "pd")
    kinds = {
        "mails": lambda place: Record(id=str(place), text=" ".join([*(f"u{place}x{n}" for n in range(9)), disclaimer])),
        "answers": lambda place: Record(
            id=str(place), prompt=f"{prompt} {place}\n", completion=["yes", "no", f"{place} by the sea"][place % 3]
        ),
    }
    for make in kinds.values():
        few, many = (pairs([make(place) for place in range(count)]) for count in (300, 600))
        assert many <= 2.2 * few + 300
