# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.finding import Estimate
from reticent.core.metrics import metric as entry
from reticent.report import number_format as numbers


def _estimate(value: float, lo: float, hi: float, **more: Any) -> Estimate:
    return Estimate(value=value, lo=lo, hi=hi, n=10, method="any", **more)


@pytest.mark.parametrize(
    ("estimate", "metric", "text"),
    [
        (_estimate(0.94321, 0.9312, 0.9551), "auc", "0.943 [0.931, 0.955]"),
        (_estimate(0.6, 0.4, 0.8), "auc", "0.60 [0.40, 0.80]"),
        (_estimate(0.514, 0.484, 0.544), "tpr@0.01", "51.4 % [48.4, 54.4]"),
        (_estimate(0.5, 0.1, 0.9), "tpr@0.1", "50 % [10, 90]"),
        (_estimate(12.4, 11.5, 13.3, unit="bits"), "exposure_bits", "12.40 bits [11.50, 13.30]"),
        (_estimate(3.1, 3.1, math.inf), "epsilon_lower", "3.10 [3.10, ∞)"),
        (_estimate(3.1, -math.inf, math.inf), "", "3.10 (−∞, ∞)"),
        (_estimate(-0.001, -0.5, 0.5), "", "0.00 [−0.50, 0.50]"),
        (_estimate(0.5, 0.5, 0.5), "auc", "0.50 [0.50, 0.50]"),
        (_estimate(123456.0, 123000.0, 124000.0), "", "123\u202f456.0 [123\u202f000.0, 124\u202f000.0]"),
    ],
)
def test_as_many_digits_as_the_interval_supports(estimate: Estimate, metric: str, text: str) -> None:
    assert str(numbers.show(estimate, metric)) == text


def test_one_sided_bounds_are_named() -> None:
    assert numbers.show(_estimate(1, 1, math.inf, confidence=0.99)).confidence == "99 %, one-sided"
    assert numbers.show(_estimate(1, 0, 2)).confidence == "95 %"


@pytest.mark.parametrize(
    ("metric", "name", "chance"),
    [
        ("auc", "AUC", 0.5),
        ("tpr@0.01", "TPR at 1 % FPR", 0.01),
        ("tpr@0.001", "TPR at 0.1 % FPR", 0.001),
        ("tpr@x", "tpr@x", None),
        ("exposure_bits", "Exposure", 1.0),
        ("new_metric", "new_metric", None),
    ],
)
def test_metrics_have_names(metric: str, name: str, chance: float | None) -> None:
    assert numbers.metric_name(metric) == name
    assert entry(metric).chance == chance


@pytest.mark.parametrize(
    ("p", "text"), [(0.00001, "< 0.0001"), (0.00091, "0.0009"), (0.0124, "0.012"), (0.5, "0.50"), (1.0, "1.00")]
)
def test_small_p_values_keep_a_digit(p: float, text: str) -> None:
    assert numbers.p_value(p) == text


@settings(deadline=None, max_examples=200)
@given(value=st.floats(-1e4, 1e4), below=st.floats(0, 1e3), above=st.floats(0, 1e3))
def test_what_is_shown_is_near_what_is_meant(value: float, below: float, above: float) -> None:
    estimate = _estimate(value, value - below, value + above)
    shown = numbers.show(estimate)
    read = float(shown.value.replace("−", "-").replace("\u202f", ""))
    assert abs(read - value) <= max(0.06 * (below + above), 0.051)
    assert not shown.value.startswith("−0.0") or read != 0
