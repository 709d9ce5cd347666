# SPDX-License-Identifier: Apache-2.0
"""Weighted statistics equal the unweighted ones on a sample in which each unit is repeated as often as it weighs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.stats.resampling import cluster_weights, weighted_auc, weighted_mean, weighted_tpr
from reticent.stats.roc import placements, tpr_at_fpr

SIZE = 140


def sample(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=SIZE)
    member = np.arange(SIZE) % 7 == 0
    score[member] += 0.7
    weight = rng.integers(0, 3, size=(SIZE, 3)).astype(float)
    weight[:, 0] = 1
    return (np.round(score) if ties else score), member, weight


def repeated(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.repeat(values, weight.astype(int))


@given(st.integers(0, 50), st.booleans())
def test_auc_and_tpr_are_those_of_the_repeated_sample(seed: int, ties: bool) -> None:
    score, member, weight = sample(seed, ties)
    areas, rates = weighted_auc(score, member, weight), weighted_tpr(score, member, weight)
    for column in range(weight.shape[1]):
        inside = repeated(score[member], weight[member, column])
        outside = repeated(score[~member], weight[~member, column])
        assert areas[column] == pytest.approx(placements(inside, outside).member.mean())
        if len(outside) >= 100:
            assert rates[column] == pytest.approx(tpr_at_fpr(inside, outside, 0.1).value)


def test_a_model_that_says_the_same_of_all_is_chance() -> None:
    member = np.arange(10) < 5
    assert weighted_auc(np.zeros(10), member, np.ones((10, 1))) == [0.5]
    assert weighted_tpr(np.zeros(10), member, np.ones((10, 1))) == [0.0]


def test_a_resample_without_a_side_has_no_number() -> None:
    member = np.array([True, True, False, False])
    weight = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 3.0]])
    assert np.isnan(weighted_auc([1, 2, 3, 4], member, weight)).tolist() == [False, True]
    assert np.isnan(weighted_tpr([1, 2, 3, 4], member, weight)).tolist() == [False, True]
    assert np.isnan(weighted_mean([1.0, 2.0], [1, 1], weight[:2])).tolist() == [False, True]


def test_means_weigh_tokens() -> None:
    assert weighted_mean([2.0, 9.0], [1, 3], np.array([[1.0, 2.0], [1.0, 1.0]])).tolist() == [11 / 4, 13 / 5]


def test_the_first_resample_is_the_sample() -> None:
    weight = cluster_weights(50, n_boot=20, seed=3)
    assert weight.shape == (50, 21)
    assert (weight[:, 0] == 1).all()
    assert (weight.sum(axis=0) == 50).all()
    np.testing.assert_array_equal(weight, cluster_weights(50, n_boot=20, seed=3))
