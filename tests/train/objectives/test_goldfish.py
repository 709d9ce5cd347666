# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.train.objectives.goldfish import goldfish, left_out

MASK = 2**64 - 1


def naive(tokens: list[int], k: int, context: int) -> list[bool]:
    """The hash with Python's integers, one token at a time."""

    def mix(x: int) -> int:
        x = ((x ^ (x >> 33)) * 0xFF51AFD7ED558CCD) & MASK
        x = ((x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53) & MASK
        return x ^ (x >> 33)

    out = []
    for t in range(len(tokens)):
        digest = 0x5EED
        for token in tokens[max(0, t - context) : t]:
            digest = mix(((digest ^ token) * 0x9E3779B97F4A7C15) & MASK)
        out.append(t >= context and digest % k == 0)
    return out


def ids(tokens: list[int]) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)


@given(st.lists(st.integers(0, 50_000), max_size=40), st.integers(2, 6), st.integers(1, 15))
@settings(max_examples=60)
def test_it_is_its_naive_twin(tokens: list[int], k: int, context: int) -> None:
    assert left_out(ids(tokens), k=k, context=context).tolist() == naive(tokens, k, context)


def test_one_in_k_is_left_out() -> None:
    """20,000 tokens: five standard errors are 1.5 points at k = 4, so that it fails by chance once in a million."""
    rng = np.random.default_rng(0)
    for k in (2, 4, 10):
        share = left_out(rng.integers(0, 50_000, 20_000).astype(np.int32), k=k, context=13).mean()
        assert share == pytest.approx(1 / k, abs=5 * np.sqrt((1 / k) * (1 - 1 / k) / 20_000))


def test_a_passage_that_occurs_again_loses_the_same_tokens() -> None:
    rng = np.random.default_rng(1)
    passage = rng.integers(0, 300, 200)
    first = left_out(ids([*rng.integers(0, 300, 5), *passage]), k=4, context=13)[5:]
    again = left_out(ids([*rng.integers(0, 300, 31), *passage]), k=4, context=13)[31:]
    assert (first[13:] == again[13:]).all()
    assert first[13:].any()


def test_the_next_token_does_not_decide_whether_it_is_left_out() -> None:
    tokens = list(range(100))
    changed = [*tokens[:-1], 7]
    assert (left_out(ids(tokens), k=3, context=4) == left_out(ids(changed), k=3, context=4)).all()


def test_what_was_not_trained_on_stays_so() -> None:
    tokens = ids(list(range(60)))
    trained = np.arange(60) >= 30
    found = goldfish(EncodedRecord(token_id=tokens, trained=trained), k=3, context=5)
    out = left_out(tokens, k=3, context=5)
    assert (found.trained == (trained & ~out)).all()
    assert (found.token_id == tokens).all()
    assert found.trained.sum() < trained.sum()


def test_golden() -> None:
    """The same tokens on every machine and in every version: a resumed training must leave the same ones out."""
    found = np.flatnonzero(left_out(ids(list(range(40))), k=4, context=13))
    assert found.tolist() == [17, 21, 22, 23, 26, 27, 30, 32, 33, 37]


def test_bad_input() -> None:
    with pytest.raises(BadInput):
        left_out(ids([1, 2]), k=0, context=13)
