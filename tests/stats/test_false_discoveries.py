# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from reticent.core.errors import BadInput
from reticent.stats.false_discoveries import benjamini_hochberg, smallest_discovery


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_as_scipy_and_as_published(p, level):
    outcome = benjamini_hochberg(p, level)
    assert outcome.adjusted == pytest.approx(false_discovery_control(p))
    ordered = sorted(p)
    most = max((k for k in range(1, len(p) + 1) if ordered[k - 1] <= k * level / len(p) * (1 + 1e-12)), default=0)
    limit = ordered[most - 1] if most else -1.0
    assert outcome.chosen.tolist() == [value <= limit for value in p]
    assert outcome.limit == (max(0.0, limit))


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_smallest_discovery_is_one(units, nulls):
    smallest_p = 1 / (1 + nulls)
    count = smallest_discovery(units, smallest_p, 0.1)
    for size, seen in ((count, True), (count - 1, False)):
        if 0 < size <= units:
            p = np.ones(units)
            p[:size] = smallest_p
            assert (benjamini_hochberg(p, 0.1).count == size) is seen


def test_no_probabilities_are_refused():
    with pytest.raises(BadInput, match="outside"):
        benjamini_hochberg([0.5, 1.2], 0.1)
