# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.membership.wbc import TIE, WINDOWS, edge_cases, wbc
from reticent.core.errors import BadInput


def naive(target, reference, widths):
    shares = []
    for width in widths:
        width = min(width, len(target))
        starts = range(len(target) - width + 1)
        votes = [sum(target[i : i + width]) > sum(reference[i : i + width]) for i in starts]
        shares.append(sum(votes) / len(votes))
    gain = (sum(target) - sum(reference)) / len(target)
    return sum(shares) / len(shares) + TIE * math.atan(gain) / math.pi


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 999), st.sampled_from(sorted(WINDOWS)))
def test_equals_a_loop(table_of, rows_of, lengths, seed, windows):
    target, reference = rows_of(lengths, seed), rows_of(lengths, seed + 1)
    want = [naive(*rows, WINDOWS[windows]) for rows in zip(target, reference, strict=True)]
    np.testing.assert_allclose(wbc(table_of(target), table_of(reference), windows=windows), want, rtol=1e-12)


def test_golden_and_edge_cases(table_of):
    target = table_of([[-1.0, -1.0, -9.0], [-1.0], [-2.0, -2.0], []])
    reference = table_of([[-2.0, -2.0, -2.0], [-2.0], [-2.0, -2.0], []])
    np.testing.assert_allclose(wbc(target, reference, windows=(1, 2)), [(2 / 3 + 1 / 2) / 2, 1, 0, np.nan], atol=TIE)
    assert list(edge_cases(target, reference, windows=(1, 2)).values()) == [2]


def test_where_all_windows_are_won_the_larger_gain_stands_higher(table_of):
    reference = table_of([[-3.0] * 5] * 3 + [[-3.0] * 4 + [-1.0]])
    target = table_of([[-2.0] * 5, [-1.0] * 5, [-2.5] * 5, [-0.1] * 4 + [-9.0]])
    scores = wbc(target, reference)
    assert np.argsort(-scores).tolist() == [1, 0, 2, 3]
    assert scores[:3].round(6).tolist() == [1, 1, 1]


def test_the_paper_list_is_its_formula():
    assert WINDOWS["paper"] == tuple(round(2 * 20 ** ((k - 1) / 9)) for k in range(1, 11))


@pytest.mark.parametrize("windows", ["papers", (), (0, 3)])
def test_refuses_what_is_no_list_of_widths(table_of, windows):
    with pytest.raises(BadInput, match="windows"):
        wbc(table_of([[-1.0]]), table_of([[-1.0]]), windows=windows)
