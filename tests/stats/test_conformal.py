# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.conformal import aligned, paired_p_values


@pytest.mark.parametrize("clusters", [12, 60])
def test_paired_p_values_as_one_would_count_them(clusters):
    rng = np.random.default_rng(clusters)
    x, y, owner = (rng.integers(0, high, 60) for high in (9, 9, clusters))
    slow = [
        (1 + sum(y[k] >= x[i] for k in range(60) if owner[k] != owner[i]))
        / (1 + sum(owner[k] != owner[i] for k in range(60)))
        for i in range(60)
    ]
    assert paired_p_values(x, y, owner) == pytest.approx(slow)
    alone = [(1 + sum(y[k] >= x[i] for k in range(60) if k != i)) / 60 for i in range(60)]
    assert paired_p_values(x, y) == pytest.approx(alone)


def test_they_are_valid_where_units_and_nulls_can_be_exchanged():
    """Also where a unit and its null share most of their noise, and units' scales are unlike."""
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(200):
        scale, shared = rng.uniform(0.1, 3, 40), rng.normal(size=40)
        x, y = (scale * (shared + 0.3 * rng.normal(size=40)) for _ in range(2))
        small += paired_p_values(x, y)[0] <= 0.1
    assert small <= 32  # Binomial(200, 0.1): more has p < 0.005


def test_alignment_only_ever_raises_p_values():
    rng = np.random.default_rng(1)
    for shift, scale in ((0.0, 1.0), (1.0, 1.0), (-1.0, 0.5), (0.5, 3.0)):
        x, y = rng.normal(size=200) * scale + shift, rng.normal(size=200)
        high = x > np.median(x)
        assert (paired_p_values(x, aligned(y, x)) >= paired_p_values(x, y))[high].all()
    assert aligned([1.0, 1.0, 1.0], [2.0, 3.0]).tolist() == [2.5, 2.5, 2.5]


def test_impossible_input_is_refused():
    with pytest.raises(Underpowered, match="one cluster"):
        paired_p_values([1.0, 2.0], [0.0, 0.0], ["a", "a"])
    with pytest.raises(BadInput):
        paired_p_values([1.0, 2.0], [0.0])
