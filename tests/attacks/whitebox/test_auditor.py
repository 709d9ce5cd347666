# SPDX-License-Identifier: Apache-2.0
"""The auditor finds what is there, finds nothing between held-out records, and never learns from what it judges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from reticent.attacks.whitebox import auditor
from reticent.attacks.whitebox.auditor import LEARNERS, as_matrix, auc_of, cross_audit, held_out_control
from reticent.core.errors import BadInput, Underpowered


def sample(n=240, gap=0.6, width=12, seed=0):
    """Three of ``width`` properties differ by ``gap``; four records to a user."""
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    properties = rng.normal(size=(n, width)) * 10.0 ** np.arange(width)
    properties[:, :3] += gap * member[:, None] * 10.0 ** np.arange(3)
    return properties, member, np.array([f"u{i // 4}" for i in range(n)], dtype=object)


def test_a_signal_is_found_and_the_control_is_chance():
    properties, member, user = sample()
    found = cross_audit(properties, member, user)
    estimate = auc_of(found, user)
    assert estimate.lo > 0.55
    assert estimate.value == pytest.approx(
        np.mean([_auc(found.score[half], member[half]) for half in (found.second, ~found.second)])
    )
    control = held_out_control(properties, member, user)
    assert len(control.score) == (~member).sum()
    chance = auc_of(control, user[~member])
    assert chance.lo <= 0.5 <= chance.hi


def test_control_labels_are_drawn_as_membership_was(monkeypatch):
    monkeypatch.setattr(auditor, "LEARNERS", {"logistic": LEARNERS["logistic, C=0.01"]})
    properties, member, user = sample(n=480)

    def users_with_both(control, owners):
        return len(set(owners[control.member]) & set(owners[~control.member]))

    assert users_with_both(held_out_control(properties, member, user), user[~member]) > 10
    whole = np.arange(480) // 4 % 2 == 0
    assert users_with_both(held_out_control(properties, whole, user), user[~whole]) == 0


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns(name):
    properties, member, _ = sample(gap=1.5, width=5)
    scaled = properties / properties.std(axis=0)
    scorer = LEARNERS[name](scaled[:120], member[:120], 0)
    assert _auc(scorer(scaled[120:]), member[120:]) > 0.85


def test_nothing_to_find_is_seldom_found(monkeypatch):
    """Noise, 30 times at 95 %: more than 5 of 30 misses has probability < 0.01."""
    monkeypatch.setattr(auditor, "LEARNERS", {"logistic": LEARNERS["logistic, C=0.01"]})
    missed, values = 0, []
    for seed in range(30):
        properties, member, user = sample(gap=0.0, seed=seed, n=120, width=8)
        estimate = auc_of(cross_audit(properties, member, user, seed=seed), user, seed=seed)
        missed += not estimate.lo <= 0.5 <= estimate.hi
        values.append(estimate.value)
    assert missed <= 5
    assert abs(np.mean(values) - 0.5) < 0.03


def test_no_record_is_judged_by_what_saw_its_user(monkeypatch):
    properties, member, user = sample()
    properties[:, 4] = np.arange(len(member))
    seen = []

    def spy(x, y, owner, seed):
        seen.append({user[int(number)] for number in x[:, 4]})
        return "spy", lambda found: (judged.append({user[int(number)] for number in found[:, 4]}), found[:, 0])[1]

    judged = []
    monkeypatch.setattr(auditor, "_fitted", spy)
    cross_audit(properties, member, user)
    assert len(seen) == len(judged) == 2
    assert all(not learned & tested for learned, tested in zip(seen, judged, strict=True))
    assert judged[0] | judged[1] == set(user)


def test_the_learner_is_chosen_without_the_other_half(monkeypatch):
    properties, member, user = sample()
    second = cross_audit(properties, member, user).second
    changed = np.where(second[:, None], properties, 0.0)
    one, other = cross_audit(properties, member, user), cross_audit(changed, member, user)
    assert one.learners[0] == other.learners[0]  # what scores the first half was learned on the second


def test_scale_and_constants_do_not_matter():
    properties, member, user = sample()
    first = cross_audit(properties, member, user)
    padded = np.column_stack([3 * properties - 7, np.full(len(member), 5.0)])
    np.testing.assert_allclose(cross_audit(padded, member, user).score, first.score, atol=1e-5)
    flat = cross_audit(np.ones((len(member), 2)), member, user)
    assert (flat.score == 0).all()
    assert flat.learners == ("nothing to learn from",) * 2


def test_the_pairwise_learner_minimises_its_formula():
    properties, member, _ = sample(n=40, width=3)
    x = properties / properties.std(axis=0)

    def loss(w, ridge=0.1):
        pairs = [(a - b) @ w for a in x[member] for b in x[~member]]
        return np.mean(np.log1p(np.exp(-np.array(pairs)))) + ridge / 2 * w @ w

    slow = minimize(loss, np.zeros(3), tol=1e-10).x
    scorer = auditor.pairwise(x, member, 0, ridge=0.1)
    np.testing.assert_allclose(scorer(np.eye(3)), slow, atol=1e-3)


def test_lengths_are_taken_by_their_logarithm():
    columns = {"loss": np.array([1.0, 2.0]), "gradient_norm.0.weight": np.array([1.0, 0.0])}
    np.testing.assert_allclose(as_matrix(columns), [[1, 0], [2, np.log(1e-12)]])


def test_refusals():
    properties, member, user = sample(n=80)
    with pytest.raises(BadInput, match="finite"):
        cross_audit(np.where(properties > 1, np.inf, properties), member, user)
    with pytest.raises(BadInput, match="properties has"):
        cross_audit(properties[:-1], member, user)
    with pytest.raises(Underpowered, match="one half"):
        cross_audit(properties[:40], member[:40], user[:40])
    with pytest.raises(Underpowered, match="one half"):
        held_out_control(properties[:70], member[:70])


def _auc(score, member):
    gaps = score[member][:, None] - score[~member]
    return (gaps > 0).mean() + (gaps == 0).mean() / 2
