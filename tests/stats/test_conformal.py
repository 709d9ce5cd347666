# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.conformal import aligned, clustered_p_values, paired_p_values
from reticent.stats.false_discoveries import benjamini_hochberg
from reticent.stats.hypothesis import p_values


@pytest.mark.parametrize("clusters", [12, 60])
def test_paired_p_values_as_one_would_count_them(clusters):
    rng = np.random.default_rng(clusters)
    x, y, owner = (rng.integers(0, high, 60) for high in (9, 9, clusters))
    share = [[np.mean(y[owner == user] >= score) for user in set(owner.tolist())] for score in x]
    mine = [np.mean(y[owner == owner[i]] >= x[i]) for i in range(60)]
    slow = [(1 + sum(share[i]) - mine[i]) / len(share[i]) for i in range(60)]
    assert paired_p_values(x, y, owner) == pytest.approx(slow)
    assert paired_p_values(x, y, [f"user {name}" for name in owner]) == pytest.approx(slow)
    assert clustered_p_values(x, y, owner) == pytest.approx([(1 + sum(row)) / (1 + len(row)) for row in share])
    assert clustered_p_values(x, y) == pytest.approx(p_values(x, y))
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


def test_texts_of_one_user_are_no_independent_null():
    """Ten users of twelve texts each, alike within a user: counted text by text, a fifth of clean sets had discoveries
    at a level of a tenth, and a p-value of .02 came up three times as often as it may."""
    rng = np.random.default_rng(2)
    owner, discovered, naive, small = np.repeat(np.arange(10), 12), 0, 0, []
    for _ in range(200):
        x, y = (np.sqrt(0.9) * rng.normal(size=10)[owner] + np.sqrt(0.1) * rng.normal(size=120) for _ in range(2))
        p = paired_p_values(x, y, owner)
        discovered += benjamini_hochberg(p, 0.1).count > 0
        others = [y[owner != user] for user in owner]
        one_by_one = [(1 + (null >= score).sum()) / (1 + len(null)) for score, null in zip(x, others, strict=True)]
        naive += benjamini_hochberg(one_by_one, 0.1).count > 0
        small += [(p <= level).mean() for level in (0.1, 0.2, 0.5)]
    assert discovered <= 33  # Binomial(200, 0.1): more has p < 0.002
    assert naive > 33
    assert (np.reshape(small, (-1, 3)).mean(axis=0) <= np.array([0.1, 0.2, 0.5]) + 0.03).all()


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
