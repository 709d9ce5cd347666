# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.membership.min_k import min_k
from reticent.core.errors import BadInput


def test_takes_the_unlikely_tail_and_at_least_one_token(table_of):
    table = table_of([[-1.0, -9.0, -2.0, -3.0, -4.0], [-0.5], [-2.0, -2.0], []])
    np.testing.assert_array_equal(min_k(table, k=0.2), [-9.0, -0.5, -2.0, np.nan])
    np.testing.assert_array_equal(min_k(table, k=0.4)[0], -6.5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8), st.sampled_from([0.1, 0.2, 0.3, 0.5, 1.0]), st.integers(0, 9)
)
def test_equals_a_loop(table_of, rows_of, lengths, k, seed):
    rows = rows_of(lengths, seed)
    naive = [np.mean(sorted(row)[: math.ceil(round(k * len(row), 9))]) for row in rows]
    np.testing.assert_allclose(min_k(table_of(rows), k=k), naive, rtol=1e-12)


@pytest.mark.parametrize("k", [0.0, -0.1, 1.01])
def test_refuses_shares_outside_the_range(table_of, k):
    with pytest.raises(BadInput, match="k="):
        min_k(table_of([[-1.0]]), k=k)
