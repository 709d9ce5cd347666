# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.dedup import DroppedRecord, drop_repeated_passages, share_covered, shared_passages, substring
from reticent.data.dedup.substring import LENGTH, UNSPACED_LENGTH, usual_length


def covered_slowly(text: str, others: list[str], length: int) -> list[bool]:
    """Which characters lie in a window that another text has, window by window."""
    covered = [False] * len(text)
    for start in range(len(text) - length + 1):
        if any(text[start : start + length] in other for other in others):
            covered[start : start + length] = [True] * length
    return covered


def covered_by(stretches: tuple[tuple[int, int], ...], n: int) -> list[bool]:
    return [any(start <= place < end for start, end in stretches) for place in range(n)]


def dropped_slowly(records: list[Record], length: int, share: float) -> list[str]:
    kept: list[str] = []
    gone = []
    for record in records:
        n = sum(covered_slowly(record.plain, kept, length))
        if n and n >= share * len(record.plain):
            gone.append(record.id)
        else:
            kept.append(record.plain)
    return gone


def from_tape(seed: int, n: int = 25) -> list[str]:
    """Texts that share long stretches: each is a few cuts of one long tape."""
    rng = np.random.default_rng(seed)
    tape = "".join(rng.choice(list("abcdefgh é🙂\n"), 300))
    return [
        "".join(tape[start : start + rng.integers(1, 60)] for start in rng.integers(0, 290, size=rng.integers(0, 4)))
        for _ in range(n)
    ]


@pytest.mark.parametrize("length", [1, 2, 7, 16, 17, 31, 50])
@pytest.mark.parametrize("seed", range(3))
def test_equals_looking_for_each_window(seed: int, length: int) -> None:
    texts = from_tape(seed)
    for i, (text, found) in enumerate(zip(texts, shared_passages(texts, length=length), strict=True)):
        assert covered_by(found, len(text)) == covered_slowly(text, texts[:i] + texts[i + 1 :], length)
        assert all(end < start for (_, end), (start, _) in pairwise(found))
        assert all(end - start >= length for start, end in found)


@settings(max_examples=150)
@given(st.lists(st.text("ab", max_size=14), max_size=6), st.integers(1, 6))
def test_equals_looking_for_each_window_in_short_texts(texts: list[str], length: int) -> None:
    for i, (text, found) in enumerate(zip(texts, shared_passages(texts, length=length), strict=True)):
        assert covered_by(found, len(text)) == covered_slowly(text, texts[:i] + texts[i + 1 :], length)


@settings(max_examples=150)
@given(st.lists(st.text("ab", max_size=14), max_size=8), st.integers(1, 6), st.sampled_from([0.1, 0.5, 1.0]))
def test_drops_what_comparing_with_each_kept_one_drops(texts: list[str], length: int, share: float) -> None:
    records = [Record(id=str(i), text=text) for i, text in enumerate(texts)]
    found = drop_repeated_passages(records, length=length, share=share)
    assert [one.id for one in found.dropped] == dropped_slowly(records, length, share)
    kept = {record.id for record in found.records}
    assert kept == {record.id for record in records} - {one.id for one in found.dropped}
    assert {one.kept for one in found.dropped} <= kept


def test_a_quoted_mail_is_a_copy_and_a_signature_is_not() -> None:
    mail = "The lamp that I ordered has arrived, but its switch does nothing at all and the shade is cracked. " * 3
    signature = "\n--\nSent with best regards from the desk of somebody at a firm that has a long legal notice below. "
    records = [
        Record(id="a", text=mail + signature),
        Record(id="b", text="Look at this: > " + mail),
        Record(
            id="c", text="Quite another matter, and about as long as the notice that ends it, or longer" * 3 + signature
        ),
    ]
    found = drop_repeated_passages(records, length=80)
    assert found.dropped == (DroppedRecord(id="b", kept="a", why="substring"),)
    [first, second, third] = shared_passages([record.plain for record in records], length=80)
    assert first == ((0, len(mail) + len(signature)),)
    assert records[1].plain[slice(*second[0])].strip() == mail.strip()
    assert records[2].plain[slice(*third[0])] == signature


def test_what_a_text_repeats_of_itself_and_what_runs_over_an_end_do_not_count() -> None:
    assert shared_passages(["abcabcabc", "xyz"], length=3) == [(), ()]
    assert shared_passages(["ab", "c", "abc"], length=3) == [(), (), ()]


def test_a_prompt_and_its_completion_are_one_text() -> None:
    records = [Record(id=str(i), prompt="a long question", completion=f"{i}") for i in range(2)]
    assert len(drop_repeated_passages(records, length=10).dropped) == 1


def test_one_letter_over_and_over_takes_no_longer() -> None:
    texts = ["a" * 100_000, "b" + "a" * 100_000]
    assert shared_passages(texts) == [((0, 100_000),), ((1, 100_001),)]


def test_the_record_that_most_passages_came_from_is_named_and_of_equals_the_earlier() -> None:
    one, two = "the parcel came late", "and the box was torn"
    mails = [
        Record(id=name, text=text) for name, text in [("a", two), ("b", one), ("both", one + two), ("c", two[:12])]
    ]
    found = drop_repeated_passages(mails, length=10, share=0.5)
    assert [(row.id, row.kept) for row in found.dropped] == [("both", "a"), ("c", "a")]


def test_share() -> None:
    assert share_covered(["abcd", ""], [((0, 1), (2, 3)), ()]).tolist() == [0.5, 0.0]


def test_refused() -> None:
    with pytest.raises(BadInput, match="length"):
        shared_passages(["a"], length=0)
    with pytest.raises(BadInput, match="share"):
        drop_repeated_passages([Record(id="a", text="a")], share=1.5)
    assert shared_passages([]) == []
    assert drop_repeated_passages([]) == ([], ())


def test_passages_without_blanks_are_shorter() -> None:
    rng = random.Random(0)
    letters = [chr(0x4E00 + i) for i in range(300)]
    shared, own = "".join(rng.choices(letters, k=UNSPACED_LENGTH)), "".join(rng.choices(letters, k=40))
    records = [Record(id="a", text=shared), Record(id="b", text=own + shared), Record(id="c", text=own)]
    assert [one.id for one in drop_repeated_passages(records).dropped] == ["b"]
    latin = [Record(id="a", text="x y " * 30), Record(id="b", text="x y " * 30 + own)]
    assert usual_length([record.plain for record in latin]) == LENGTH


@pytest.mark.parametrize("part", [1, 40, 10_000])
def test_parts_and_colliding_hashes_change_nothing(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = from_tape(5)
    usual = shared_passages(texts, length=12)
    assert any(usual)
    monkeypatch.setattr(substring, "PART", part)
    assert shared_passages(texts, length=12) == usual
    monkeypatch.setattr(substring, "mix", lambda numbers: numbers % np.uint64(5))
    assert shared_passages(texts, length=12) == usual


def test_memory_beyond_the_texts_is_that_of_repeated_passages() -> None:
    """Bytes a character where nothing is repeated: a suffix array takes at least 8."""
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(97, 123, size=8_000))) for _ in range(400)]
    shared_passages(texts[:2])
    tracemalloc.start()
    assert not any(shared_passages(texts))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * substring.PART + 4 * sum(map(len, texts))
