# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from reticent.core.record import Record
from reticent.data.dedup import drop_near_duplicates, drop_near_duplicates_by_minhash
from reticent.data.dedup.minhash import BANDS, CROWD, ROWS, minhash_originals, signatures
from reticent.data.dedup.near import gram_hashes, near_originals


def jaccard(a: str, b: str) -> float:
    first, second = (set(map(int, found)) for found in gram_hashes([a, b]))
    return len(first & second) / len(first | second)


def family(rng: np.random.Generator, members: int, words: int = 60, changed: int = 4) -> list[str]:
    """A text, and versions of it with some words replaced."""
    text = [f"w{word}" for word in rng.integers(0, 10_000, size=words)]
    out = []
    for _ in range(members):
        version = list(text)
        for place in rng.choice(words, size=rng.integers(0, changed), replace=False):
            version[place] = f"x{rng.integers(0, 10_000)}"
        out.append(" ".join(version))
    return out


def corpus(seed: int, families: int = 60) -> list[Record]:
    rng = np.random.default_rng(seed)
    texts = [text for _ in range(families) for text in family(rng, int(rng.integers(1, 6)), changed=5)]
    return [Record(id=str(i), text=texts[place]) for i, place in enumerate(rng.permutation(len(texts)))]


def test_columns_agree_as_often_as_the_sets_overlap() -> None:
    """Over 2,000 functions the share of agreement is the Jaccard similarity within 5 sd."""
    texts = family(np.random.default_rng(1), 6, changed=20)
    found = signatures(texts, hashes=2000)
    for i in range(len(texts)):
        for j in range(i):
            expected = jaccard(texts[i], texts[j])
            agree = float((found[i] == found[j]).mean())
            assert abs(agree - expected) <= 5 * np.sqrt(max(expected * (1 - expected), 1e-12) / 2000) + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_drops_nothing_but_near_duplicates_and_nearly_all_of_them(seed: int) -> None:
    """A pair at 0.5 is missed with chance 0.004, and most pairs are nearer; of about 90 copies two may be missed."""
    records = corpus(seed)
    exact = {one.id for one in drop_near_duplicates(records).dropped}
    found = {one.id for one in drop_near_duplicates_by_minhash(records).dropped}
    assert found <= exact
    assert len(exact - found) <= 2
    assert len(exact) > 50


def test_what_stands_for_a_copy_is_alike_and_earlier() -> None:
    records = corpus(5)
    for later, earlier in enumerate(minhash_originals(records)):
        assert earlier < later
        if earlier >= 0:
            assert near_originals([records[earlier], records[later]]).tolist() == [-1, 0]


def test_a_crowd_is_compared_with_the_first_only_and_still_found() -> None:
    letters = [f"dear customer {i} " + " ".join(f"w{k}" for k in range(40)) for i in range(3 * CROWD)]
    records = [Record(id=str(i), text=text) for i, text in enumerate(letters)]
    found = drop_near_duplicates_by_minhash(records)
    assert [record.id for record in found.records] == ["0"]
    assert {one.kept for one in found.dropped} == {"0"}


def test_a_shared_prompt_makes_no_copy() -> None:
    prompt = " ".join(f"w{k}" for k in range(40))
    records = [Record(id=str(i), prompt=prompt, completion=f"answer {i} is quite another") for i in range(9)]
    assert drop_near_duplicates_by_minhash(records).dropped == ()


def test_chances_that_are_stated() -> None:
    for similarity, stated in ((0.5, 0.996), (0.1, 0.04)):
        chance = 1 - (1 - similarity**ROWS) ** BANDS
        assert abs(chance - stated) < 2e-3


def test_few() -> None:
    assert drop_near_duplicates_by_minhash([]) == ([], ())
    one = [Record(id="a", text="")]
    assert drop_near_duplicates_by_minhash(one) == (one, ())
    two = [Record(id=name, text="") for name in "ab"]
    assert [one.id for one in drop_near_duplicates_by_minhash(two).dropped] == ["b"]
