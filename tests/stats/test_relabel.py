# SPDX-License-Identifier: Apache-2.0
"""Re-thrown coins: every labelling that keeps to the design comes up equally often, and no other."""

from collections import Counter
from itertools import combinations
from math import comb, exp

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.stats.relabel import Design, free, log_labellings, relabelled, smallest_p, whole, within


def drawn(member, design, draws=6000, seed=0):
    return np.concatenate(list(relabelled(np.array(member), design, draws=draws, seed=seed)), axis=1)


def test_the_first_column_is_the_real_one_and_the_others_keep_the_number_of_members():
    member = np.array([True, False, True, False, False])
    labels = drawn(member, free(5))
    assert labels.shape == (5, 6001)
    np.testing.assert_array_equal(labels[:, 0], member)
    assert (labels.sum(axis=0) == 2).all()


def test_every_labelling_comes_up_equally_often():
    """Ten labellings, 6,000 draws: each 600 ± 23; six standard errors miss about once in 10^8 of these tests."""
    counts = Counter(tuple(column) for column in drawn([True, True, False, False, False], free(5))[:, 1:].T)
    assert len(counts) == 10
    assert all(abs(count - 600) < 140 for count in counts.values())


def test_within_owners_each_keeps_its_number_of_members():
    owner = np.array(["a", "b", "a", "b", "c", "a"])
    member = np.array([True, False, False, True, True, False])
    labels = drawn(member, within(owner))
    for one in "abc":
        assert (labels[owner == one].sum(axis=0) == member[owner == one].sum()).all()
    assert {tuple(column) for column in labels[owner == "a"].T} == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert np.exp(log_labellings(member, within(owner))) == pytest.approx(3 * 2 * 1)


def test_one_sided_owners_trade_as_a_whole():
    owner = np.array(["a", "a", "b", "c", "d", "d"])
    member = np.array([True, True, False, False, True, False])
    design = whole(owner, member)
    labels = drawn(member, design)[design.block]
    assert (labels[0] == labels[1]).all()
    assert (labels[[0, 2, 3]].sum(axis=0) == 1).all()
    assert (labels[4] + labels[5] == 1).all()
    assert exp(log_labellings(member, design)) == pytest.approx(3 * 2)


def test_few_labellings_bound_the_p_value():
    member = np.array([True, True, False, False, False])
    assert smallest_p(member, free(5), draws=2000) == pytest.approx(1 / comb(5, 2))
    assert smallest_p(np.arange(200) < 100, free(200), draws=2000) == pytest.approx(1 / 2001)


def test_many_strata_at_once_are_what_one_by_one_gives():
    """The vectorised draw against permuting each stratum by itself: the same distribution of a statistic."""
    rng = np.random.default_rng(3)
    owner = np.sort(rng.integers(0, 12, 60))
    member = rng.random(60) < 0.5
    value = rng.normal(size=60)
    fast = value @ drawn(member, within(owner), draws=4000)
    slow = []
    for _ in range(4000):
        label = member.copy()
        for one in np.unique(owner):
            label[owner == one] = rng.permutation(label[owner == one])
        slow.append(value[label].sum())
    assert abs(fast.mean() - np.mean(slow)) < 5 * np.std(slow) / np.sqrt(2000)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.08)


def test_blocks_are_summed():
    design = Design(block=np.array([1, 0, 1]), stratum=np.zeros(3, dtype=int))
    np.testing.assert_array_equal(design.sums([1.0, 2.0, 4.0]), [2.0, 5.0])


def test_refuses_a_block_in_two_strata_or_with_two_labels():
    with pytest.raises(BadInput, match="two strata"):
        Design(block=np.array([0, 0]), stratum=np.array([0, 1]))
    with pytest.raises(BadInput, match="both labels"):
        drawn([True, False], Design(block=np.array([0, 0]), stratum=np.array([0, 0])))


def test_the_rank_sum_has_its_exact_null_distribution():
    """Against all 70 labellings of eight units."""
    member = np.arange(8) < 4
    ranks = np.arange(8.0)
    exact = np.mean([sum(chosen) >= 17 for chosen in combinations(range(8), 4)])
    sums = ranks @ drawn(member, free(8), draws=20000)
    assert np.mean(sums[1:] >= 17) == pytest.approx(exact, abs=0.015)
