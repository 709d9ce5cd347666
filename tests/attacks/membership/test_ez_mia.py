# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.membership.ez_mia import edge_cases, ez_mia
from reticent.core.errors import BadInput


def naive(target, reference, ranks, n_zero, drop_first):
    """``P / N`` by a loop, then on (0, 1) by ``x / (1 + x)``."""
    positive = negative = size = 0.0
    for place, (t, r, rank) in enumerate(zip(target, reference, ranks, strict=True)):
        if rank == 0 or (drop_first and place == 0):
            continue
        size += 1
        positive += max(t - r, 0.0)
        negative += max(r - t, 0.0)
    if n_zero == "official" and (size < 2 or negative == 0):
        return 0.0
    if negative == 0:
        return 1.0
    ratio = positive / negative
    return ratio / (1 + ratio)


def test_golden(table_of):
    target = table_of([[-1.0, -2.0, -3.0, -0.1]], rank=[[3, 1, 9, 0]])
    reference = table_of([[-4.0, -1.0, -3.0, -9.0]])
    assert ez_mia(target, reference) == 0.75  # P = 3, N = 1; the last token is the target's top choice
    assert ez_mia(target, reference, drop_first=True) == 0.0


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.integers(0, 999),
    st.sampled_from(["top", "official"]),
    st.booleans(),
)
def test_equals_a_loop(table_of, rows_of, lengths, seed, n_zero, drop_first):
    rng = np.random.default_rng(seed)
    target, reference = rows_of(lengths, seed), rows_of(lengths, seed + 1)
    ranks = [list(rng.integers(0, 3, n)) for n in lengths]
    got = ez_mia(table_of(target, rank=ranks), table_of(reference), n_zero=n_zero, drop_first=drop_first)
    want = [naive(*rows, n_zero, drop_first) for rows in zip(target, reference, ranks, strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-9)


EDGES = {
    "no token is wrong": ([-1.0, -1.0], [-2.0, -2.0], [0, 0]),
    "one wrong token, gained": ([-1.0, -1.0], [-2.0, -2.0], [1, 0]),
    "one wrong token, lost": ([-3.0, -1.0], [-2.0, -2.0], [1, 0]),
    "N = 0": ([-1.0, -1.0], [-2.0, -2.0], [1, 1]),
    "nothing changed": ([-2.0, -2.0], [-2.0, -2.0], [1, 1]),
    "ordinary": ([-1.0, -3.0], [-2.0, -2.0], [1, 1]),
}


def test_both_conventions_and_the_count_of_rows_they_decide(table_of):
    target, reference, ranks = zip(*EDGES.values(), strict=True)
    table, ref = table_of(target, rank=ranks), table_of(reference)
    np.testing.assert_array_equal(ez_mia(table, ref), [1, 1, 0, 1, 1, 0.5])
    np.testing.assert_array_equal(ez_mia(table, ref, n_zero="official"), [0, 0, 0, 0, 0, 0.5])
    assert list(edge_cases(table, ref).values()) == [3, 2]
    assert list(edge_cases(table, ref, drop_first=True).values()) == [6, 0]


def test_top_is_above_every_row_that_has_a_loss(table_of):
    table = table_of([[-0.0, -2.000001], [-1.0, -1.0]])
    ref = table_of([[-50.0, -2.0], [-1.1, -1.1]])
    almost, top = ez_mia(table, ref)
    assert almost < top


def test_refuses_an_unknown_convention_and_says_nothing_of_empty_rows(table_of):
    with pytest.raises(BadInput, match="n_zero"):
        ez_mia(table_of([[-1.0]]), table_of([[-1.0]]), n_zero="bottom")
    assert np.isnan(ez_mia(table_of([[]]), table_of([[]]))[0])
