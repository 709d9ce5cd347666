# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.report.svg import COLOURS, DASHES, Scale, frame, series, steps, tag


def test_tags_escape_children_and_attributes() -> None:
    assert tag("text", '<b>&"', class_="a", aria_label='"><img', x=1.26) == (
        '<text class="a" aria-label="&#34;&gt;&lt;img" x="1.3">&lt;b&gt;&amp;&#34;</text>'
    )
    assert "<script>" not in frame("a", 1, 1, "<script>", "</desc><script>", tag("g"))


def test_scales_are_linear_or_logarithmic_and_clip() -> None:
    linear = Scale(low=0, high=10, start=100, end=0)
    assert [linear(value) for value in (-5, 0, 2.5, 10, math.inf)] == [100, 100, 75, 0, 0]
    log = Scale(low=0.01, high=1, start=0, end=200, log=True)
    assert [log(value) for value in (0, 0.01, 0.1, 1)] == pytest.approx([0, 0, 100, 200])


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0, 15.5, False, [0, 5, 10, 15]),
        (0.45, 0.75, False, [0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75]),
        (0.001, 1, True, [0.001, 0.01, 0.1, 1]),
        (-1, 1, False, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round(low: float, high: float, log: bool, ticks: list[float]) -> None:
    assert Scale(low=low, high=high, start=0, end=1, log=log).ticks() == pytest.approx(ticks)


@settings(deadline=None, max_examples=200)
@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6))
def test_there_are_always_a_few_ticks_inside(low: float, width: float) -> None:
    ticks = Scale(low=low, high=low + width, start=0, end=1).ticks()
    assert 2 <= len(ticks) <= 8
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)


def test_steps_go_across_then_up() -> None:
    assert steps([0, 10, 20], [5, 4, 3]) == "M0 5H10V4H20V3"


def test_series_are_told_apart_by_colour_and_pattern() -> None:
    assert len({series(i) for i in range(COLOURS * DASHES)}) == COLOURS * DASHES
