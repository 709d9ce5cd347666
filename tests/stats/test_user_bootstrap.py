# SPDX-License-Identifier: Apache-2.0
"""Means over users: how often their intervals hold, and rows that do not move."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.user_bootstrap import expanded_percentile, mean_of_rows, owners, row_weights


@pytest.mark.parametrize(("users", "rows"), [(5, 20), (40, 1)])
def test_the_interval_holds(users, rows):
    """150 repetitions, nominal 5 %: more than 12 % would be too many."""
    rng = np.random.default_rng(users)
    missed = 0
    for _ in range(150):
        middle = np.repeat(np.clip(0.4 + 0.12 * rng.normal(size=users), 0.05, 0.95), rows)
        values = rng.beta(3 * middle, 3 * (1 - middle))
        estimate = mean_of_rows(values, None if rows == 1 else np.repeat(np.arange(users), rows))
        missed += not estimate.lo <= 0.4 <= estimate.hi
    assert missed <= 18


def test_rare_hits_are_covered():
    """Of 40 rows 5 % are hits: a bootstrap misses in 14 % (no hit at all has no spread), this in 5 % at most."""
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(400):
        estimate = mean_of_rows((rng.random(40) < 0.05).astype(float))
        missed += not estimate.lo <= 0.05 <= estimate.hi
    assert missed <= 20


def test_users_count_not_rows():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(8), 50)
    values = np.clip(0.5 + 0.2 * rng.normal(size=8)[owner] + 0.01 * rng.normal(size=400), 0, 1)
    by_user, by_row = mean_of_rows(values, owner), mean_of_rows(values)
    assert by_user.hi - by_user.lo > 4 * (by_row.hi - by_row.lo)
    assert by_user.value == pytest.approx(by_row.value)


def test_rows_that_are_all_the_same_have_a_careful_interval():
    flat = mean_of_rows(np.full(50, 0.0))
    assert flat.hi == pytest.approx(1 - 0.025 ** (1 / 50))
    by_user = mean_of_rows(np.full(50, 0.0), np.repeat(np.arange(5), 10))
    assert by_user.hi == pytest.approx(1 - 0.025 ** (1 / 5))
    alike = mean_of_rows([0.0, 1.0] * 6, np.repeat(np.arange(6), 2))
    assert alike.lo < 0.2 < 0.8 < alike.hi
    middle = mean_of_rows(np.full(50, 3.0), within=(0.0, 6.0), unit="nats")
    assert middle.lo < 3.0 < middle.hi
    assert middle.unit == "nats"


def test_values_outside_of_the_range_are_refused_and_not_cut():
    with pytest.raises(BadInput, match="lie outside of 0 to 1"):
        mean_of_rows([0.4, 1.6, 0.9, 0.7, 0.5])
    assert mean_of_rows([0.4, 1.6, 0.9, 0.7, 0.5], within=(0.0, np.inf)).hi > 1


def test_it_stays_within_its_range_and_holds_its_value():
    estimate = mean_of_rows([0.0, 0.0, 0.01, 0.0, 0.02])
    assert 0.0 <= estimate.lo <= estimate.value <= estimate.hi <= 1.0
    skewed = expanded_percentile(np.array([5.0, 1.0, 2.0, 3.0]), users=4, n=4)
    assert skewed.lo <= 5.0 <= skewed.hi


def test_names_of_users_may_be_anything():
    assert owners(3, ["b", "a", "b"]).tolist() == [1, 0, 1]
    assert owners(2, None).tolist() == [0, 1]
    weight = row_weights(np.array([0, 0, 1]), n_boot=50)
    assert weight.shape == (3, 51)
    assert (weight[0] == weight[1]).all()
    assert (weight[:, 0] == 1).all()


def test_refusals():
    with pytest.raises(BadInput):
        mean_of_rows([0.1, 0.2], ["a"])
    with pytest.raises(BadInput):
        mean_of_rows([0.1, np.nan])
    with pytest.raises(Underpowered):
        mean_of_rows([0.1, 0.2], ["a", "a"])
    with pytest.raises(Underpowered):
        mean_of_rows([1.0, 1.0], within=(0.0, np.inf))


def test_closed_form_of_many_rows_agrees_with_resamples(monkeypatch):
    """1000 users; 2000 resamples have a standard error of 1.6 %, at a small skewness."""
    rng = np.random.default_rng(11)
    owner = np.repeat(np.arange(1000), 2)
    values = np.clip(rng.beta(2, 3, 1000)[owner] + 0.1 * rng.normal(size=2000), 0, 1)
    resampled = mean_of_rows(values, owner, unit="share", higher_is_worse=False)
    monkeypatch.setattr("reticent.stats.user_bootstrap.CLOSED_FORM", 2000)
    closed = mean_of_rows(values, owner, unit="share", higher_is_worse=False)
    assert closed.value == pytest.approx(resampled.value)
    assert (closed.unit, closed.higher_is_worse) == ("share", False)
    assert closed.hi - closed.lo == pytest.approx(resampled.hi - resampled.lo, rel=0.06)
    assert closed.method == "clustered variance of 1000 users or rows, Student t"
    assert "bootstrap" in resampled.method
    flat = mean_of_rows(np.full(2000, 3.0), owner, within=(0.0, 6.0))
    assert flat.lo < 3 < flat.hi
    monkeypatch.setattr("reticent.stats.user_bootstrap.CLOSED_FORM_USERS", 1001)
    assert "bootstrap" in mean_of_rows(values, owner).method


def test_closed_form_of_rows_without_users_is_the_error_of_a_mean(monkeypatch):
    monkeypatch.setattr("reticent.stats.user_bootstrap.CLOSED_FORM", 2000)
    values = np.random.default_rng(12).random(2000)
    closed = mean_of_rows(values)
    assert closed.hi - closed.lo == pytest.approx(2 * 1.9612 * values.std(ddof=1) / 2000**0.5, rel=1e-4)
