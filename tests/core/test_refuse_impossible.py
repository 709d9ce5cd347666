# SPDX-License-Identifier: Apache-2.0
"""Numbers that no audit gives."""

from __future__ import annotations

import math

import pytest

from reticent.core.finding import Estimate
from reticent.core.refuse_impossible import _impossible


def estimate(value: float, lo: float, hi: float, n: int = 9) -> Estimate:
    return Estimate(value=value, lo=lo, hi=hi, n=n, method="DeLong")


@pytest.mark.parametrize(
    ("metric", "value", "lo", "hi"),
    [
        ("auc", 0.0, 0.0, 0.1),
        ("auc", 1.0, 0.9, 1.0),
        ("auc", 0.59, 0.6, 0.7),  # a joint interval around another centre
        ("epsilon_lower", 0.0, 0.0, math.inf),
        ("epsilon_lower", 3.0, 3.0, math.inf),
        ("extracted", -0.2, -0.4, 0.1),
        ("exposure_bits", 20.0, 1.0, 25.0),
        ("advantage", -0.1, -0.2, 0.1),
    ],
)
def test_what_audits_give_passes(metric: str, value: float, lo: float, hi: float) -> None:
    assert _impossible(metric, estimate(value, lo, hi)) == ""


@pytest.mark.parametrize(
    ("metric", "value", "lo", "hi"),
    [
        ("auc", -3.0, 0.4, 0.6),
        ("auc", 1.2, 0.4, 0.6),
        ("auc", 0.1, 0.5, 0.6),
        ("tpr@0.01", 1.5, 0.0, 1.0),
        ("epsilon_lower", -1.0, 0.0, math.inf),
        ("exposure_bits", -2.0, 0.0, 1.0),
        ("extracted", -1.5, -1.0, 1.0),
        ("auc", math.inf, 0.4, 0.6),
    ],
)
def test_what_none_gives_is_named(metric: str, value: float, lo: float, hi: float) -> None:
    assert metric in _impossible(metric, estimate(value, lo, hi))
