# SPDX-License-Identifier: Apache-2.0
"""The exact rank test: by hand, a twin that lists every choice, scipy, both ways of counting, and its level."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, rankdata

from reticent.core.errors import BadInput
from reticent.stats import rank_test
from reticent.stats.rank_test import lower_p


def p_naive(low: list[float], rest: list[float]) -> float:
    """Twin: the mid-ranks of every choice of as many values, one after the other."""
    ranks = rankdata(low + rest)
    seen = ranks[: len(low)].sum()
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, len(low))]
    return sum(total <= seen + 1e-9 for total in sums) / len(sums)


few = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 0.5000001, 2.0, np.inf]), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(few, few)
def test_equals_its_naive_twin_with_ties(low: list[float], rest: list[float]) -> None:
    assert lower_p(low, rest) == pytest.approx(p_naive(low, rest), abs=1e-12)


def test_by_hand() -> None:
    assert lower_p([0.0], np.arange(1.0, 250.0)) == pytest.approx(1 / 250)
    assert lower_p([9.0], [1.0, 2.0]) == 1.0
    assert lower_p([1.0, 1.0], [1.0, 1.0, 1.0]) == 1.0
    assert lower_p(np.arange(10.0), np.arange(10.0, 20.0)) == pytest.approx(1 / math.comb(20, 10))


@pytest.mark.parametrize(("n", "m"), [(3, 250), (30, 250), (25, 18)])
def test_equals_scipy_without_ties(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    low, rest = rng.normal(-0.5, 1, n), rng.normal(size=m)
    want = mannwhitneyu(low, rest, alternative="less", method="exact").pvalue
    assert lower_p(low, rest) == pytest.approx(want, rel=1e-9)


def test_the_larger_group_may_be_the_low_one() -> None:
    rng = np.random.default_rng(0)
    low, rest = np.round(rng.normal(-0.3, 1, 60), 1), np.round(rng.normal(size=9), 1)
    assert lower_p(low, rest) == pytest.approx(lower_p(-rest, -low), rel=1e-9)


def test_drawing_agrees_with_counting_and_is_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    low, rest = np.round(rng.normal(-0.5, 1, 12), 1), np.round(rng.normal(size=40), 1)
    counted = lower_p(low, rest)
    monkeypatch.setattr(rank_test, "EXACT", 0)
    monkeypatch.setattr(rank_test, "DRAWS", 19_999)
    drawn = lower_p(low, rest)
    assert drawn == pytest.approx(counted, abs=5 * math.sqrt(counted / 20_000))
    assert lower_p(low, rest) == drawn  # seeded
    assert lower_p(np.arange(30.0), np.arange(30.0, 99.0)) == 1 / 20_000


def test_only_order_counts() -> None:
    rng = np.random.default_rng(2)
    low, rest = rng.normal(-1, 1, 7), rng.normal(size=90)
    assert lower_p(np.exp(low), np.exp(rest)) == lower_p(low, rest)


@pytest.mark.parametrize("step", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_level_is_kept_whatever_the_number_and_the_ties(n: int, step: float) -> None:
    """1,200 tiers of which nothing was learned: p <= a in a share of a at most, within four standard errors; and hardly
    less where there are no ties and a is one of the values that p can take."""
    rng = np.random.default_rng(3)
    p = []
    for _ in range(300):
        values = rng.normal(size=(4, n + 49))
        values = np.round(values / step) if step else values
        p += [lower_p(row[:n], row[n:]) for row in values]
    for level in (0.02, 0.1):
        error = math.sqrt(level * (1 - level) / len(p))
        share = np.mean(np.array(p) <= level + 1e-12)
        assert share <= level + 4 * error
        assert step or share >= level - 4 * error - 0.001


def test_refusals() -> None:
    for low, rest in (([], [1.0]), ([1.0], []), ([math.nan], [1.0])):
        with pytest.raises(BadInput):
            lower_p(low, rest)
