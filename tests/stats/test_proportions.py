# SPDX-License-Identifier: Apache-2.0
"""Shares and their differences: golden values, limits, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.intervals import clopper_pearson
from reticent.stats.proportions import difference, paired_difference, share


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.99]))
def test_hits_without_users_have_the_exact_interval(counts, confidence):
    hits, n = counts
    found = share(np.arange(n) < hits, confidence=confidence)
    lo, hi = clopper_pearson(hits, n, confidence=confidence)
    np.testing.assert_allclose((found.lo, found.hi), (lo, hi), atol=1e-12)
    named = share(np.arange(n) < hits, np.arange(n), confidence=confidence)
    assert (named.lo, named.hi) == (found.lo, found.hi)


def test_users_whose_units_agree_count_once():
    values, users = np.repeat([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], 20), np.repeat(np.arange(10), 20)
    found, alone = share(values, users), share(values)
    lo, hi = clopper_pearson(3, 10)
    assert found.hi - found.lo > 0.9 * (hi - lo) > 2 * (alone.hi - alone.lo)
    assert "10 users" in found.method
    nothing = share(np.zeros(200), users)
    assert nothing.hi == pytest.approx(float(clopper_pearson(0, 10).hi))


def test_newcombes_example_without_correlation():
    """56/70 and 48/80: Newcombe (Statistics in Medicine 17, 1998, 873-890) gives 0.0524 to 0.3339 by Wilson's
    limits (method 10); Clopper-Pearson's are wider."""
    found = difference(np.arange(70) < 56, np.arange(80) < 48)
    assert found.value == pytest.approx(0.2)
    assert 0.03 < found.lo < 0.0524
    assert 0.3339 < found.hi < 0.36


def test_pairs_that_agree_narrow_the_interval():
    x = np.arange(60) < 30
    y = np.arange(60) < 24
    assert paired_difference(x, y).lo > difference(x, y).lo
    assert paired_difference(x, y[::-1]).lo < difference(x, y).lo


def test_nothing_extracted_is_no_difference_but_no_proof_either():
    found = paired_difference(np.zeros(30), np.zeros(30))
    assert (found.value, found.lo) == (0, -found.hi)
    assert 0.1 < found.hi < 0.2


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 4)), min_size=6, max_size=40))
def test_the_mean_lies_inside_and_sides_mirror(rows):
    x, y, user = (np.array(column) for column in zip(*rows, strict=True))
    if len(np.unique(user)) < 2:
        return
    one, back = paired_difference(x, y, user), paired_difference(y, x, user)
    assert one.lo <= one.value <= one.hi
    np.testing.assert_allclose((one.lo, one.hi), (-back.hi, -back.lo), atol=1e-9)
    found, rest = share(x, user), share(1 - x, user)
    np.testing.assert_allclose((found.lo, found.hi), (1 - rest.hi, 1 - rest.lo), atol=1e-9)


@pytest.mark.parametrize(("p", "q", "together"), [(0.3, 0.1, 0.5), (0.05, 0.02, 0.0), (0.9, 0.5, 0.8)])
def test_the_difference_covers(p, q, together):
    """2,000 samples of 40 pairs: 95 % intervals must cover at least 94 %. With a true coverage of 95 % that fails by
    chance once in 40 seeds; the intervals are wider than nominal, and the seed is fixed."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        u = rng.random(40)
        v = np.where(rng.random(40) < together, u, rng.random(40))
        found = paired_difference(u < p, v < q)
        covered += found.lo <= p - q <= found.hi
    assert covered / 2000 > 0.94


def test_the_share_covers_when_users_differ():
    """1,000 samples of 20 users with 1 to 12 units: 95 % intervals must cover at least 93.5 %: below that, a true 95 %
    falls once in 60 seeds; the seed is fixed."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        sizes = rng.integers(1, 13, size=20)
        user = np.repeat(np.arange(20), sizes)
        rate = rng.beta(0.6, 1.4, size=20)
        found = share(rng.random(len(user)) < rate[user], user)
        covered += found.lo <= 0.3 <= found.hi
    assert covered / 1000 > 0.935


def test_what_is_no_share_is_refused():
    with pytest.raises(BadInput, match="outside"):
        share([0.5, 1.5])
    with pytest.raises(BadInput):
        share([])
    with pytest.raises(BadInput, match="one entry"):
        paired_difference([0, 1], [0, 1, 1])
    with pytest.raises(Underpowered, match="1 user"):
        share([0, 1, 1], ["a", "a", "a"])
