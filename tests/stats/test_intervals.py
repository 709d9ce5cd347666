# SPDX-License-Identifier: Apache-2.0
"""Exact intervals against scipy's own and against exact enumeration of the binomial."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from reticent.core.errors import BadInput
from reticent.stats.intervals import (
    clopper_pearson,
    clopper_pearson_lower,
    clopper_pearson_upper,
    quantile_order,
)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.999]))
def test_clopper_pearson_is_scipys_exact_interval(n, data, confidence):
    x = data.draw(st.integers(0, n))
    want = binomtest(x, n).proportion_ci(confidence, method="exact")
    np.testing.assert_allclose(clopper_pearson(x, n, confidence=confidence), (want.low, want.high), atol=1e-9)


def test_clopper_pearson_broadcasts_and_covers_at_every_share():
    x, n = np.arange(21), 20
    lo, hi = clopper_pearson(x, n)
    assert lo.shape == hi.shape == (21,)
    for p in np.linspace(0.01, 0.99, 99):
        missed = binom.pmf(x[(lo > p) | (hi < p)], n, p).sum()
        assert missed <= 0.05


def test_one_sided_bounds_at_the_ends():
    assert clopper_pearson_lower(0, 10, 0.05) == 0.0
    assert clopper_pearson_upper(10, 10, 0.05) == 1.0
    np.testing.assert_allclose(clopper_pearson_lower(10, 10, 0.05), 0.05**0.1)
    np.testing.assert_allclose(clopper_pearson_upper(0, 10, 0.05), 1 - 0.05**0.1)


@pytest.mark.parametrize(("x", "n"), [(-1, 5), (6, 5), (0, 0), (np.nan, 5)])
def test_impossible_counts_are_refused(x, n):
    with pytest.raises(BadInput):
        clopper_pearson(x, n)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [1, 5, 6, 30, 1000])
def test_quantile_order_is_the_narrowest_pair_by_exact_binomials(n, share):
    """Twin: walk inwards from the ends while each tail stays within miss / 2."""
    below, above, missed = quantile_order(n, share, 0.05)
    tail = binom.pmf(np.arange(n + 1), n, share)
    want_below = max((i for i in range(n) if tail[: i + 1].sum() <= 0.025), default=-1)
    want_above = min((i for i in range(n) if tail[i + 1 :].sum() <= 0.025), default=n)
    assert (below, above) == (want_below, want_above)
    assert missed <= 0.05
