# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.membership.loss import LEAST, loss, nll


def test_golden_and_edge_cases(table_of):
    table = table_of([[-1.0, -3.0], [-0.5], [], [0.0, 0.0]])
    np.testing.assert_array_equal(loss(table), [-2.0, -0.5, np.nan, 0.0])
    np.testing.assert_array_equal(nll(table), [2.0, 0.5, np.nan, LEAST])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 99))
def test_equals_a_loop(table_of, rows_of, lengths, seed):
    rows = rows_of(lengths, seed)
    np.testing.assert_allclose(loss(table_of(rows)), [sum(row) / len(row) for row in rows], rtol=1e-12)
