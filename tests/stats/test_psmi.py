# SPDX-License-Identifier: Apache-2.0
"""PSMI against loops, closed forms in one and two dimensions, and what it is for: mislabelled records."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from reticent.core.errors import BadInput, Underpowered
from reticent.stats import psmi as module
from reticent.stats.psmi import frequent, psmi


def blobs(rng, n, centres, *, spread=1.0):
    """States around a centre for each label."""
    label = rng.integers(0, len(centres), n)
    return np.asarray(centres)[label] + spread * rng.standard_normal((n, len(centres[0]))), label


def by_loops(hidden, label, projections, seed):
    """Twin: one record, one direction and one label at a time, with scipy's density."""
    directions = np.random.default_rng(seed).standard_normal((projections, hidden.shape[1]))
    found = []
    for i in range(len(hidden)):
        total = 0.0
        for direction in directions:
            along = hidden @ (direction / math.sqrt(sum(direction**2)))
            each, mixture = {}, 0.0
            for c in set(label.tolist()):
                own = along[label == c]
                each[c] = norm.pdf(along[i], own.mean(), own.std(ddof=1))
                mixture += (label == c).mean() * each[c]
            total += math.log(each[label[i]] / mixture)
        found.append(total / projections)
    return found


def test_it_equals_loops(monkeypatch):
    hidden, label = blobs(np.random.default_rng(0), 30, [[0, 0, 0, 0], [2, 0, 0, 0], [0, 1, 3, 0]])
    np.testing.assert_allclose(psmi(hidden, label, projections=20, seed=3), by_loops(hidden, label, 20, 3))
    monkeypatch.setattr(module, "CELLS", 30 * 3 * 7)
    np.testing.assert_allclose(psmi(hidden, label, projections=20, seed=3), by_loops(hidden, label, 20, 3))


def test_in_one_dimension_it_is_the_pointwise_mutual_information():
    """Two normals, distance 2: log[ φ(x-m) / (φ(x)/2 + φ(x-2)/2) ] in closed form; 20,000 records estimate it."""
    hidden, label = blobs(np.random.default_rng(2), 20_000, [[0.0], [2.0]])
    x = hidden[:, 0]
    exact = norm.logpdf(x, 2.0 * label) - np.log(norm.pdf(x) / 2 + norm.pdf(x, 2) / 2)
    found = psmi(hidden, label, projections=3)
    near = np.abs(x - 1) < 2  # further out the estimated variances tell
    assert np.abs(found - exact)[near].max() < 0.1
    assert np.abs(found - exact).mean() < 0.01


def test_averaging_over_projections_agrees_with_the_integral_over_the_circle():
    """In the plane directions are an angle; the mean of the closed form over it is a quadrature."""
    centres = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    hidden, label = blobs(np.random.default_rng(2), 6000, centres)
    exact = np.zeros(len(hidden))
    angles = (np.arange(180) + 0.5) * math.pi / 180
    for angle in angles:
        direction = np.array([math.cos(angle), math.sin(angle)])
        density = np.stack([norm.pdf(hidden @ direction, centre @ direction) for centre in centres])
        exact += np.log(density[label, np.arange(len(label))] / density.mean(axis=0)) / len(angles)
    found = psmi(hidden, label)
    assert np.abs(found - exact).mean() < 0.02
    assert np.corrcoef(found, exact)[0, 1] > 0.995


def test_two_thousand_projections_settle_the_mean_to_five_percent():
    """The paper's figure, in 64 dimensions."""
    rng = np.random.default_rng(3)
    hidden, label = blobs(rng, 300, rng.standard_normal((4, 64)))
    means = [psmi(hidden, label, seed=seed).mean() for seed in range(6)]
    assert max(means) - min(means) < 0.05 * np.mean(means)


def test_wrong_labels_have_low_values():
    """What the paper is about: a record whose label does not follow from its state has to be memorized."""
    rng = np.random.default_rng(4)
    hidden, label = blobs(rng, 400, 1.5 * rng.standard_normal((2, 16)))
    wrong = np.arange(400) < 40
    found = psmi(hidden, np.where(wrong, 1 - label, label))
    assert (found[wrong] < np.quantile(found[~wrong], 0.05)).mean() > 0.9
    assert np.median(found[wrong]) < 0 < np.median(found[~wrong])


def test_states_that_say_nothing_give_about_zero():
    rng = np.random.default_rng(5)
    found = psmi(rng.standard_normal((2000, 8)), rng.integers(0, 4, 2000))
    assert abs(found.mean()) < 0.01


def test_shift_scale_and_names_of_labels_change_nothing():
    hidden, label = blobs(np.random.default_rng(6), 50, [[0, 0], [1, 2]])
    expected = psmi(hidden, label, projections=50)
    np.testing.assert_allclose(psmi(7 * hidden - 3, label, projections=50), expected)
    np.testing.assert_allclose(psmi(hidden, np.array(["b", "a"])[label], projections=50), expected)


def test_far_outliers_and_constant_labels_stay_finite():
    hidden, label = blobs(np.random.default_rng(7), 40, [[0, 0], [1, 2]])
    hidden[0] = 1e6
    hidden[label == 1] = 5.0
    assert np.isfinite(psmi(hidden, label, projections=20)).all()


def test_what_cannot_be_told_is_refused():
    hidden = np.zeros((4, 2))
    with pytest.raises(Underpowered, match="label of 1 record"):
        psmi(hidden, [0, 0, 0, 1])
    with pytest.raises(BadInput, match="same for all"):
        psmi(hidden, [0, 0, 0, 0])
    with pytest.raises(BadInput, match="not finite"):
        psmi(hidden + np.nan, [0, 0, 1, 1])
    with pytest.raises(BadInput, match="no \\[N, D\\]"):
        psmi([1.0, 2.0], [0, 1])


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(2, 9))
def test_frequent_names_keep_a_label_of_their_own(names, classes):
    label = frequent(names, classes)
    assert len(set(label.tolist())) <= classes
    for one in set(label.tolist()):
        assert (label == one).sum() >= 2
    for one in set(label.tolist()) - {0}:
        assert len({name for name, its in zip(names, label, strict=True) if its == one}) == 1
    shared = [names.count(name) for name, its in zip(names, label, strict=True) if its == 0]
    own = [names.count(name) for name, its in zip(names, label, strict=True) if its]
    assert not own or not shared or max(shared) <= min(own) or len(shared) <= min(own) + 1
