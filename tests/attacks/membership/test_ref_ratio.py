# SPDX-License-Identifier: Apache-2.0
import numpy as np

from reticent.attacks.membership.loss import LEAST
from reticent.attacks.membership.ref_ratio import ref_ratio


def test_golden_and_certain_texts(table_of):
    target, reference = table_of([[-1.0, -3.0], [-0.5], [0.0]]), table_of([[-2.0, -6.0], [-0.25], [0.0]])
    np.testing.assert_allclose(ref_ratio(target, reference), [-0.5, -2.0, -1.0])
    assert ref_ratio(table_of([[0.0]]), table_of([[-1.0]])) == -LEAST


def test_the_same_gain_counts_more_on_an_easy_text(table_of):
    target, reference = table_of([[-1.0], [-5.0]]), table_of([[-2.0], [-6.0]])
    easy, hard = ref_ratio(target, reference)
    assert easy > hard
