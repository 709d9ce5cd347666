# SPDX-License-Identifier: Apache-2.0
"""Prediction intervals against their formula, and how often one more retrained model lies inside."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput, Underpowered
from reticent.stats.among_retrained import AmongRetrained, among_retrained, smallest_departure
from reticent.stats.intervals import clopper_pearson


def test_five_models_at_95_percent_reach_three_standard_deviations():
    models = [1.0, 2.0, 3.0, 4.0, 5.0]
    (place,) = among_retrained({"loss": 7.0}, {"loss": models}).places
    half = (place.predicted.hi - place.predicted.lo) / 2
    assert half / place.spread == pytest.approx(3.04, abs=0.005)
    assert (place.predicted.value, place.predicted.n, place.spread) == (3.0, 5, pytest.approx(math.sqrt(2.5)))
    assert place.distance == pytest.approx(4 / (math.sqrt(2.5) * math.sqrt(1.2)))
    assert place.inside
    assert place.p_value > 0.05


@pytest.mark.parametrize("k", [3, 5, 8])
def test_one_more_retrained_model_lies_inside_as_often_as_promised(k):
    """Exact for Gaussian draws: 2,000 repetitions, the nominal share inside the 99.9 % interval."""
    rng = np.random.default_rng(k)
    inside = sum(
        among_retrained({"loss": draw[0]}, {"loss": draw[1:]}).inside for draw in rng.normal(3.0, 0.2, (2000, k + 1))
    )
    low, high = clopper_pearson(inside, 2000, confidence=0.999)
    assert low < 0.95 < high


def test_several_quantities_hold_together():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(500):
        common = rng.normal(size=6)
        draws = {name: 0.5 * common + rng.normal(size=6) for name in ("loss", "ratio", "agreement")}
        among = among_retrained(
            {name: of[0] for name, of in draws.items()}, {name: of[1:] for name, of in draws.items()}
        )
        inside += among.inside
        assert among.inside == (among.p_value >= 0.05)
    assert clopper_pearson(inside, 500, confidence=0.999).hi > 0.95
    assert inside / 500 > 0.94


def test_the_departure_that_shows_does_so_at_the_power_asked():
    rng = np.random.default_rng(1)
    departure = smallest_departure(5)
    draws = rng.normal(size=(2000, 6))
    outside = sum(not among_retrained({"a": of[0] + departure}, {"a": of[1:]}).inside for of in draws)
    assert 0.77 < outside / 2000 < 0.83
    assert smallest_departure(3) > departure > smallest_departure(10)
    among = among_retrained({"a": 1.0, "b": 1.0}, {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5]})
    assert among.departure_shown == pytest.approx(smallest_departure(5, confidence=0.975))


def test_units_do_not_matter():
    rng = np.random.default_rng(2)
    draw = rng.normal(size=6)
    first = among_retrained({"a": draw[0]}, {"a": draw[1:]})
    other = among_retrained({"a": 100 - 1e6 * draw[0]}, {"a": 100 - 1e6 * draw[1:]})
    assert first.p_value == pytest.approx(other.p_value)
    assert first.places[0].distance == pytest.approx(-other.places[0].distance)


def test_it_can_be_written_and_read():
    among = among_retrained({"a": 1.0, "b": 2.0}, {"a": [1, 2, 3], "b": [4, 5, 7]})
    assert decode(AmongRetrained, json.loads(json.dumps(encode(among)))) == among


@pytest.mark.parametrize(
    ("values", "retrained", "error"),
    [
        ({"a": 1.0}, {"a": [1.0, 2.0]}, Underpowered),
        ({"a": 1.0}, {"a": [2.0, 2.0, 2.0, 2.0]}, Underpowered),
        ({"a": 1.0}, {"b": [1.0, 2.0, 3.0]}, BadInput),
        ({}, {}, BadInput),
        ({"a": math.nan}, {"a": [1.0, 2.0, 3.0]}, BadInput),
        ({"a": 1.0}, {"a": [1.0, math.inf, 3.0]}, BadInput),
        ({"a": 1.0, "b": 1.0}, {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0, 4.0]}, BadInput),
    ],
)
def test_refusals(values, retrained, error):
    with pytest.raises(error):
        among_retrained(values, retrained)


def test_three_models_say_what_is_missing():
    with pytest.raises(Underpowered, match="at least 3, better 5"):
        among_retrained({"a": 1.0}, {"a": [1.0, 2.0]})
