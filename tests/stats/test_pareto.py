# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.stats.pareto import bracket, frontier

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


def slow_frontier(points: list[tuple[int, int]]) -> list[int]:
    """Every pair: a point is out if another is no worse in both and better in one, or equal and earlier."""
    kept = []
    for i, (x, y) in enumerate(points):
        beaten = any(
            (a <= x and b <= y and (a < x or b < y)) or ((a, b) == (x, y) and j < i) for j, (a, b) in enumerate(points)
        )
        if not beaten:
            kept.append(i)
    return sorted(kept, key=lambda i: points[i])


def leak_at(loss: object, leak: object, target: object) -> np.ndarray:
    """Leakage on the line that `bracket` names; NaN where no point is as good as ``target``."""
    low, high, weight = bracket(loss, leak, target)
    values = np.asarray(leak, dtype=float).reshape(len(leak), -1)
    column = np.arange(values.shape[1])
    return np.where(low >= 0, (1 - weight) * values[low, column] + weight * values[high, column], np.nan)


def slow_leak_at(points: list[tuple[int, int]], target: float) -> float:
    """Walk along the frontier."""
    corners = [points[i] for i in slow_frontier(points)]
    if target < corners[0][0]:
        return float("nan")
    for (x0, y0), (x1, y1) in pairwise(corners):
        if x0 <= target < x1:
            return y0 + (target - x0) / (x1 - x0) * (y1 - y0)
    return corners[-1][1]


@given(POINTS)
def test_the_frontier_is_that_of_comparing_every_pair(points: list[tuple[int, int]]) -> None:
    loss, leak = zip(*points, strict=True)
    assert frontier(loss, leak).tolist() == slow_frontier(points)


@given(POINTS, st.floats(-1, 8))
def test_interpolation_is_a_walk_along_the_frontier(points: list[tuple[int, int]], target: float) -> None:
    loss, leak = zip(*points, strict=True)
    np.testing.assert_allclose(leak_at(loss, leak, target), [slow_leak_at(points, target)], atol=1e-9)


def test_matched_utility_in_closed_form() -> None:
    """Two straight trade-offs with loss 3 to 2: at loss 2.25 they are three quarters along."""
    loss = np.array([[3.0], [2.0]])
    assert leak_at(loss, [[0.5], [0.9]], 2.25) == pytest.approx(0.8)
    assert leak_at(loss, [[0.5], [0.6]], 2.25) == pytest.approx(0.575)
    assert leak_at(loss, [[0.5], [0.9]], 2.0) == pytest.approx(0.9)
    assert leak_at(loss, [[0.5], [0.9]], 5.0) == pytest.approx(0.5)
    assert np.isnan(leak_at(loss, [[0.5], [0.9]], 1.99)).all()


def test_each_resample_is_its_own() -> None:
    loss = np.array([[3.0, 3.0, 3.0], [2.0, 1.0, 2.6]])
    leak = np.array([[0.5, 0.5, 0.5], [0.9, 0.9, 0.9]])
    np.testing.assert_allclose(leak_at(loss, leak, [2.5, 2.5, 2.5]), [0.7, 0.6, np.nan])
    low, high, weight = bracket(loss, leak, [2.5, 2.5, 2.5])
    assert low.tolist() == [1, 1, -1]
    assert high.tolist() == [0, 0, -1]
    np.testing.assert_allclose(weight, [0.5, 0.75, 0])
