# SPDX-License-Identifier: Apache-2.0
"""Corrections and tests against chance: twins, exact enumeration, validity under the null."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.stats.hypothesis import (
    family_confidence,
    holm,
    p_values,
)


def test_family_confidence():
    assert family_confidence(0.95, 1) == pytest.approx(0.95)
    assert family_confidence(0.95, 20) == pytest.approx(0.9975)
    with pytest.raises(BadInput):
        family_confidence(0.95, 0)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_its_definition(p):
    """Twin: the adjusted p of a test is the largest stepped p among all tests with no larger p."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    want = [0.0] * len(p)
    for place, i in enumerate(order):
        want[i] = min(1.0, max((len(p) - k) * p[order[k]] for k in range(place + 1)))
    np.testing.assert_allclose(holm(p), want)
    assert np.all(holm(p) <= np.minimum(1, np.array(p) * len(p)) + 1e-12)  # never worse than Bonferroni


def test_holm_keeps_the_family_error():
    """2,000 families of 10 true nulls that depend on each other; 5 % + four standard errors (2 %)."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2000, 1))
    z = 0.7 * shared + math.sqrt(1 - 0.49) * rng.normal(size=(2000, 10))
    p = 0.5 * np.vectorize(math.erfc)(z / math.sqrt(2))
    assert np.mean([holm(row).min() <= 0.05 for row in p]) <= 0.07


@pytest.mark.parametrize("p", [[-0.1], [1.1], [float("nan")], []])
def test_holm_refuses_what_is_no_probability(p):
    with pytest.raises(BadInput):
        holm(p)


tied = st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, np.inf]), min_size=1, max_size=15)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tied, tied)
def test_p_values_equal_a_loop(scores, held_out):
    want = [(1 + sum(h >= s for h in held_out)) / (1 + len(held_out)) for s in scores]
    np.testing.assert_allclose(p_values(scores, held_out), want)


def test_p_values_of_fresh_units_are_valid():
    """P(p <= a) <= a for exchangeable units: 4,000 draws, four standard errors (0.35 % each at 5 %)."""
    rng = np.random.default_rng(1)
    p = np.array([p_values(rng.normal(size=1), rng.normal(size=39))[0] for _ in range(4000)])
    for a in (0.025, 0.05, 0.5):
        assert np.mean(p <= a) <= a + 4 * math.sqrt(a * (1 - a) / 4000)
    assert p.min() == 1 / 40
