# SPDX-License-Identifier: Apache-2.0
"""Ranks against sorting, and chance against drawing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from reticent.attacks.pii.ranks import chance, rank_of, reciprocal, top
from reticent.core.errors import BadInput


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.data())
def test_ranks_are_mean_ranks(scores, data):
    values = np.array(scores, dtype=np.float64)
    truth = data.draw(st.integers(0, len(scores) - 1))
    assert rank_of(values, truth) == rankdata(-values)[truth]


def test_what_is_read_off_ranks():
    ranks = np.array([1, 1.5, 5, 6, np.inf])
    np.testing.assert_array_equal(top(ranks, 1), [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(top(ranks, 5), [1, 1, 1, 0, 0])
    np.testing.assert_allclose(reciprocal(ranks), [1, 2 / 3, 0.2, 1 / 6, 0])
    with pytest.raises(BadInput):
        top(ranks, 0)


def test_chance_is_what_guessing_gives():
    rng = np.random.default_rng(0)
    counts = [3, 10, 100]
    ranks = np.concatenate([rng.integers(1, count + 1, 40_000) for count in counts]).astype(np.float64)
    for k in (1, 5):
        assert chance(counts, k) == pytest.approx(top(ranks, k).mean(), abs=0.01)  # 7 standard errors
    assert chance(counts) == pytest.approx(reciprocal(ranks).mean(), abs=0.01)
