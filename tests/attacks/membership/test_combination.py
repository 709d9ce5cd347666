# SPDX-License-Identifier: Apache-2.0
"""The learned combination: it gains, it finds nothing in nothing, and its statistic is what refitting by hand gives."""

import numpy as np
import pytest

from reticent.attacks.attack import ATTACKS
from reticent.attacks.membership import combination as module
from reticent.attacks.membership.combination import RIDGE, combination
from reticent.core.errors import BadInput
from reticent.stats.discrepancy import discrepancy


def auc(scores, member):
    difference = scores[member][:, None] - scores[~member]
    return (difference > 0).mean() + 0.5 * (difference == 0).mean()


def sample(records=400, gap=1.0, seed=0, attacks=4):
    """Attacks that see the same gap through noise of their own, one on a very different scale."""
    rng = np.random.default_rng(seed)
    member = rng.random(records) < 0.5
    scores = rng.normal(size=(records, attacks)) + gap * member[:, None]
    scores[:, 0] = np.exp(3 * scores[:, 0])
    return scores, member, np.array([f"u{i // 8}" for i in range(records)], dtype=object)


def test_beats_each_attack():
    scores, member, user = sample()
    found = combination(scores, user).scores(member)
    assert auc(found, member) > max(auc(column, member) for column in scores.T)


def test_nothing_to_find_gives_chance_on_average_not_less():
    found = []
    for seed in range(40):
        scores, member, user = sample(records=160, gap=0.0, seed=seed)
        found.append(auc(combination(scores, user, seed=seed).scores(member), member))
    assert abs(np.mean(found) - 0.5) < 0.02


def test_the_statistic_is_what_learning_anew_for_each_labelling_gives():
    scores, _, user = sample(records=80)
    made = combination(scores, user)
    rng = np.random.default_rng(1)
    labels = (rng.random((80, 6)) < 0.5).astype(float)
    fast = made.statistics(labels)
    for column, label in enumerate(labels.T):
        total = 0.0
        for learned, judged in ((made.first.rows, made.second.rows), (made.second.rows, made.first.rows)):
            x = made.ranks[learned] - made.ranks[learned].mean(axis=0)
            ridge = RIDGE * np.trace(x.T @ x) / x.shape[1]
            direction = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ label[learned])
            score = (made.ranks[judged] - made.ranks[judged].mean(axis=0)) @ direction
            total += score @ label[judged] / np.sqrt((score**2).sum())
        assert fast[column] == pytest.approx(total)


def test_labels_only_move_within_their_stratum():
    """A stratum whose records are all likely, and members of which there are more of, tells nothing."""
    rng = np.random.default_rng(2)
    stratum = np.repeat([0, 1], 100)
    member = rng.random(200) < np.where(stratum == 0, 0.2, 0.8)
    scores = rng.normal(size=(200, 3)) + 3 * stratum[:, None]
    within = combination(scores, None, stratum)
    labels = np.stack([member, *(_shuffled(member, stratum, rng) for _ in range(300))], axis=1).astype(float)
    drawn = within.statistics(labels)
    assert np.mean(drawn >= drawn[0]) > 0.005  # confounded by the stratum it would be the largest by far
    free = combination(scores).statistics(labels)
    assert free.mean() > 5 * abs(drawn.mean())


def _shuffled(member, stratum, rng):
    label = member.copy()
    for one in (0, 1):
        label[stratum == one] = rng.permutation(label[stratum == one])
    return label


def test_an_owner_is_in_one_half_and_halves_know_no_label():
    scores, member, user = sample(records=120)
    made = combination(scores, user)
    assert not set(user[made.first.rows]) & set(user[made.second.rows])
    assert set(user) == set(user[made.first.rows]) | set(user[made.second.rows])
    np.testing.assert_array_equal(made.in_second[made.second.rows], True)
    other = made.scores(~member)
    np.testing.assert_allclose(other, -made.scores(member), atol=1e-9)


def test_only_ranks_matter_and_the_same_comes_out_again():
    scores, member, user = sample()
    stretched = scores.copy()
    stretched[:, 2] = np.exp(stretched[:, 2])
    np.testing.assert_array_equal(combination(scores, user).scores(member), combination(stretched, user).scores(member))


def test_ranks_put_ties_in_the_middle():
    np.testing.assert_allclose(module._ranks(np.array([[3.0], [1.0], [1.0], [9.0]]))[:, 0], [0.25, -0.5, -0.5, 0.75])


def test_constant_attacks_and_attacks_that_are_one_are_no_trouble():
    scores, member, _ = sample(records=60)
    same = np.column_stack([scores, scores[:, 1], np.ones(60)])
    assert np.isfinite(combination(same).scores(member)).all()
    assert np.isfinite(combination(np.ones((60, 2))).scores(member)).all()


def test_refuses_what_cannot_be_learned_from():
    scores, _, user = sample(records=40)
    with pytest.raises(BadInput, match="NaN"):
        combination(np.where(np.arange(40)[:, None] == 3, np.nan, scores), user)
    with pytest.raises(BadInput, match="1 owners"):
        combination(scores, np.full(40, "u", dtype=object))
    with pytest.raises(BadInput, match="owner has"):
        combination(scores, user[:-1])


def test_the_registered_attacks_on_scores_are_those_that_the_audit_runs():
    rng = np.random.default_rng(0)
    member = rng.random(200) < 0.5
    matrix = rng.normal(size=(200, 4)) + member[:, None]
    owner = np.array([f"u{row // 2}" for row in range(200)], dtype=object)
    evidence = {"scores": matrix, "member": member, "user": owner}
    learned = combination(matrix, owner).scores(member)
    np.testing.assert_array_equal(ATTACKS.get("combination").score(evidence), learned)
    order = np.argsort(~member, kind="stable")
    for owners in (None, owner):
        taken = ATTACKS.get("discrepancy").score(
            {"scores": matrix[order], "member": member[order], "user": None if owners is None else owners[order]}
        )
        told = discrepancy(
            matrix[member],
            matrix[~member],
            member_cluster=None if owners is None else owners[member],
            held_out_cluster=None if owners is None else owners[~member],
        )
        judged = ~np.isnan(taken)
        advantage = taken[judged & member[order]].mean() - taken[judged & ~member[order]].mean()
        assert advantage == told.advantage.value
        assert judged.sum() == told.advantage.n
