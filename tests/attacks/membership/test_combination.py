import numpy as np
import pytest

from reticent.attacks.membership import combination
from reticent.attacks.membership.combination import combine
from reticent.core.errors import BadInput
from reticent.stats.halves import confidence_of_each, mean_of
from reticent.stats.roc import auc as auc_estimate


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


@pytest.mark.parametrize("model", ["logistic", "boosting"])
def test_beats_each_attack_and_its_control_is_chance(model):
    scores, member, user = sample()
    found = combine(scores, member, user, model=model)
    assert auc(found.score, member) > max(auc(column, member) for column in scores.T)
    assert 0.4 < auc(found.control_score, found.control_member) < 0.6
    np.testing.assert_array_equal(np.sort(found.control_member), np.sort(member))


def test_nothing_to_find_gives_chance_on_average_not_less():
    found = []
    for seed in range(30):
        scores, member, user = sample(records=160, gap=0.0, seed=seed)
        out = combine(scores, member, user, seed=seed)
        found += [auc(out.score, member), auc(out.control_score, out.control_member)]
    assert abs(np.mean(found) - 0.5) < 0.02


def test_judged_by_halves_it_misses_chance_no_more_often_than_said():
    """Above 12 misses in 100 have a chance of 0.15 % where 5 % are expected; pooled scores miss in about 13."""
    misses = 0
    for seed in range(100):
        scores, member, _ = sample(records=160, gap=0.0, seed=seed)
        found = combine(scores, member, seed=seed)
        each = confidence_of_each(0.95)
        parts = [
            auc_estimate(found.score[half & member], found.score[half & ~member], confidence=each)
            for half in (found.second, ~found.second)
        ]
        between = mean_of(parts, confidence=0.95)
        misses += not between.lo <= 0.5 <= between.hi
    assert misses <= 12


def test_no_record_is_scored_by_a_model_that_saw_its_user(monkeypatch):
    scores, member, user = sample(records=120)
    scores[:, 1] = np.arange(120)  # the rank of this column is the record's number
    seen, scored = [], []

    class Spy:
        def fit(self, features, labels):
            seen.append({user[round((x + 1) / 2 * 120 - 0.5)] for x in features[:, 1]})
            return self

        def decision_function(self, features):
            scored.append({user[round((x + 1) / 2 * 120 - 0.5)] for x in features[:, 1]})
            return features[:, 0]

    monkeypatch.setattr(combination, "_model", lambda name, seed: Spy())
    combine(scores, member, user)
    assert len(seen) == 4  # two halves, and two of the control
    assert all(not (a & b) for a, b in zip(seen, scored, strict=True))
    assert set.union(*scored[:2]) == set(user)


def test_only_ranks_matter_and_the_same_comes_out_again():
    scores, member, user = sample()
    stretched = scores.copy()
    stretched[:, 2] = np.exp(stretched[:, 2])
    first, second = combine(scores, member, user), combine(stretched, member, user)
    np.testing.assert_array_equal(first.score, second.score)
    np.testing.assert_array_equal(first.control_score, second.control_score)


def test_ranks_put_ties_in_the_middle():
    np.testing.assert_allclose(
        combination._ranks(np.array([[3.0], [1.0], [1.0], [9.0]]))[:, 0], [0.25, -0.5, -0.5, 0.75]
    )


def test_refuses_what_cannot_be_learned_from():
    scores, member, user = sample(records=40)
    with pytest.raises(BadInput, match="NaN"):
        combine(np.where(np.arange(40)[:, None] == 3, np.nan, scores), member, user)
    with pytest.raises(BadInput, match="1 units on the smaller side"):
        combine(scores, user == "u0", user)
    with pytest.raises(BadInput, match="model"):
        combine(scores, member, user, model="forest")
    with pytest.raises(BadInput, match="member has"):
        combine(scores, member[:-1], user)
