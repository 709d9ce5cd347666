# SPDX-License-Identifier: Apache-2.0
"""Attacks on scores and internals of other distributions are run, judged on halves, and refused where they peek."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reticent.attacks.attack import ATTACKS, attack
from reticent.attacks.membership.combination import combination
from reticent.auditing.membership.choose_attacks import BY_THE_AUDIT, ON_OTHERS, AvailableEvidence, choose, listed
from reticent.auditing.membership.collect import MembershipEvidence
from reticent.auditing.membership.evaluate import judge_alone
from reticent.auditing.membership.level import AttackScores, Level
from reticent.auditing.membership.make_levels import record_level
from reticent.auditing.membership.registered import registered_scores
from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Severity, ThreatModel
from reticent.core.membership import Membership
from reticent.score.internals.internals import Internals
from reticent.testing.conformance import check_attack

N = 200
ABOUT = {"unit": "record", "returns": "score", "access": "logits", "paper": "arXiv:2405.15140"}
THERE = AvailableEvidence(reference=True, users=True, population=1, known_held_out=1, known_members=1)


@pytest.fixture
def plug_in(monkeypatch):
    """Register a function as a plug-in does, for one test."""
    ATTACKS.names()
    monkeypatch.setattr(ATTACKS, "_things", dict(ATTACKS._things))

    def register(name, function, **about):
        attack(name, **ABOUT | about)(function)
        return ATTACKS.get(name)

    return register


def mean_score(scores, *, power: float = 1.0):
    """Mean of all ranks.

    Returns ``[N]``, higher = member.
    """
    return np.sign(power) * scores.mean(axis=1)


def slope(scores, member, half, user=None):
    """Difference of the means, learned on either half.

    Returns ``[N]``, higher = member.
    """
    out = np.empty(len(scores))
    for judged in (half, ~half):
        fit = ~judged
        out[judged] = scores[judged] @ (scores[fit & member].mean(axis=0) - scores[fit & ~member].mean(axis=0))
    return out


def peeking(scores, member, half, user=None):
    """Learned on all.

    Returns ``[N]``, higher = member.
    """
    return scores @ (scores[member].mean(axis=0) - scores[~member].mean(axis=0))


def silent(scores, member, user=None):
    """Learned on halves of its own.

    Returns ``[N]``, higher = member.
    """
    return combination(scores, user).scores(member)


def depth(internals):
    """Hidden states moved.

    Returns ``[N]``, higher = member.
    """
    return -internals["loss"]


def level(seed=0, gain=1.0):
    rng = np.random.default_rng(seed)
    member = rng.permutation(N) < N // 2
    scores = rng.normal(size=(N, 3)) + gain * member[:, None]
    return Level(name="record", member=member, cluster=None, attacks=(), what="", together=scores)


def test_with_and_without_labels_they_find_what_leaks(plug_in):
    attacks = [plug_in("mean_score", mean_score), plug_in("slope", slope)]
    units = level()
    scored, refused = registered_scores(attacks, units, None, seed=0)
    assert refused == []
    mean, learned = scored
    np.testing.assert_array_equal(mean.score, units.together.mean(axis=1))
    assert (mean.second, mean.threat.needs) == (None, ())
    assert learned.second.sum() == N // 2
    assert learned.threat.needs == ("records of known membership",)
    findings = judge_alone(replace(units, attacks=scored)).findings
    leaks = {
        finding.attack for finding in findings if finding.metric == "auc" and finding.severity is not Severity.NONE
    }
    assert leaks == {"mean_score", "slope"}
    for entry in attacks:
        check_attack(entry)


def test_where_nothing_leaks_they_are_as_often_wrong_as_stated(plug_in):
    """16 levels at 5 %: above 3 has a chance of 1 %."""
    attacks = [plug_in("mean_score", mean_score), plug_in("slope", slope)]
    alarms = 0
    for seed in range(16):
        units = level(seed, gain=0.0)
        scored, _ = registered_scores(attacks, units, None, seed=seed)
        alarms += any(
            found.severity is not Severity.NONE for found in judge_alone(replace(units, attacks=scored)).findings
        )
    assert alarms <= 3


def test_one_that_peeks_or_does_not_say_what_it_learned_from_is_refused(plug_in):
    attacks = [plug_in("peeking", peeking), plug_in("silent", silent)]
    scored, refused = registered_scores(attacks, level(), None, seed=0)
    assert scored == []
    assert refused[0].startswith("peeking: its scores of a half change with the labels of that half")
    assert refused[1].startswith("silent: learns from labels and does not say from which")
    with pytest.raises(AssertionError, match="scored by its own labels"):
        check_attack(attacks[0])


def test_one_that_gives_no_numbers_is_refused_and_the_rest_goes_on(plug_in):
    def empty(scores):
        """Nothing.

        Returns ``[N]``, higher = member.
        """
        return np.full(len(scores), np.nan)

    def short(scores):
        """Too few.

        Returns ``[N]``, higher = member.
        """
        return np.zeros(3)

    def weak(scores):
        """Too few records.

        Returns ``[N]``, higher = member.
        """
        raise Underpowered("12 records", "are too few", "Use more.")

    attacks = [plug_in(f.__name__, f) for f in (empty, short, weak)] + [plug_in("mean_score", mean_score)]
    scored, refused = registered_scores(attacks, level(), None, seed=0)
    assert [entry.name for entry in scored] == ["mean_score"]
    assert [line.partition(":")[0] for line in refused] == ["empty", "short", "weak"]
    assert "200 of 200" in refused[0]
    assert "Use more" in refused[2]


def test_the_audit_chooses_runs_and_lists_them(plug_in):
    plug_in("mean_score", mean_score)
    plug_in("depth", depth)
    plug_in("on_request", mean_score, by_name="slow")
    choice = choose("standard,mean_score(power=2)", THERE)
    assert {entry.name for entry in choice.on_others} == {"mean_score", "depth"}
    assert {entry.name for entry in choose("loss,on_request", THERE).on_others} >= {"on_request"}
    units = level()
    membership = Membership(
        record_id=np.arange(N).astype(str).astype(object),
        member=units.member,
        user=np.full(N, None, dtype=object),
        user_member=units.member,
        role=np.full(N, "evaluate", dtype=object),
        unit="record",
    )
    scores = dict(zip(("loss", "min_k"), units.together.T, strict=False))
    evidence = MembershipEvidence(membership=membership, scores=scores, notes={}, dropped=0, choice=choice)
    outside = record_level(evidence, seed=0).level
    assert "mean_score" in {entry.name for entry in outside.attacks}
    assert "depth" not in {entry.name for entry in outside.attacks}
    inside = Internals(forward={"loss": -units.together[:, 0]}, backward={"gradient_norm": np.ones(N)})
    both = record_level(replace(evidence, inside=inside), seed=0).level.attacks
    assert {"mean_score", "depth", "combination"} <= {entry.name for entry in both}
    (row,) = [row for row in listed(choice, {}, both) if row.name == "mean_score"]
    assert (row.ran, row.params) == (True, {"power": 2.0})


def test_the_lists_are_those_of_the_registry():
    ours = {entry.name for family in ON_OTHERS for entry in ATTACKS.select(family=family)}
    assert ours == BY_THE_AUDIT
    assert choose("standard", THERE).on_others == ()
    with pytest.raises(BadInput):
        choose("mean_scor", THERE)


def test_scores_without_labels_are_tested_with_the_rest(plug_in):
    entry = plug_in("mean_score", mean_score)
    units = level()
    scored, _ = registered_scores([entry], units, None, seed=0)
    loss = AttackScores(name="loss", score=units.together[:, 0], threat=ThreatModel(access="logprob"))
    findings = judge_alone(replace(units, attacks=(loss, *scored))).findings
    p_values = {finding.attack: finding.p_value for finding in findings if finding.metric == "auc"}
    assert p_values["mean_score"] is not None
    assert p_values["mean_score"] <= 0.05
