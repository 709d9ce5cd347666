# SPDX-License-Identifier: Apache-2.0
import numpy as np

from reticent.attacks.membership.ref_diff import ref_diff


def test_golden(table_of):
    target, reference = table_of([[-1.0, -3.0], [-0.5], []]), table_of([[-2.0, -4.0], [-0.25], []])
    np.testing.assert_array_equal(ref_diff(target, reference), [1.0, -0.25, np.nan])


def test_a_model_against_itself_gives_zero(table_of, rows_of):
    table = table_of(rows_of([3, 8, 1], 0))
    np.testing.assert_array_equal(ref_diff(table, table), [0, 0, 0])
