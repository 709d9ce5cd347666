# SPDX-License-Identifier: Apache-2.0
"""From scores to findings: what is said, what is refused, and that many attacks do not make a lucky one."""

from dataclasses import replace

import numpy as np
import pytest

from reticent.auditing.family import leak_levels
from reticent.auditing.membership.evaluate import judge_alone
from reticent.auditing.membership.level import AttackScores, Level
from reticent.auditing.membership.most_exposed import exposed, hashed
from reticent.auditing.verdict import severity, verdict
from reticent.core.finding import Estimate, Severity, ThreatModel
from reticent.core.results import Confound

THREAT = ThreatModel(access="logprob")
CLEAN = Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False)


def level_of(shifts, n=200, seed=0, name="record"):
    rng = np.random.default_rng(seed)
    member = np.arange(2 * n) < n
    attacks = [
        AttackScores(name=f"a{i}", score=rng.normal(size=2 * n) + shift * member, threat=THREAT)
        for i, shift in enumerate(shifts)
    ]
    return Level(name=name, member=member, cluster=None, attacks=attacks, what="members against others")


def outcome_of(level, **options):
    return judge_alone(level, **options)


def test_a_planted_leak_is_found_and_the_best_attack_named():
    outcome = outcome_of(level_of([0.0, 3.0, 1.0]))
    assert outcome.best.name == "a1"
    by_attack = {finding.attack: finding for finding in outcome.findings if finding.metric == "auc"}
    assert by_attack["a1"].severity is Severity.CRITICAL
    assert by_attack["a0"].severity is Severity.NONE
    assert by_attack["a1"].estimate.lo > 0.9 > by_attack["a0"].estimate.hi


def test_intervals_hold_for_all_attacks_together():
    """Ten useless attacks, 100 audits: in at most 5 % may any interval miss 0.5. Binomial: > 11 of 100 has p < 0.01."""
    missed = 0
    for seed in range(100):
        aucs = [f.estimate for f in outcome_of(level_of([0.0] * 10, n=60, seed=seed)).findings if f.metric == "auc"]
        assert len(aucs) == 10
        missed += any(not estimate.lo <= 0.5 <= estimate.hi for estimate in aucs)
    assert missed <= 11


def test_low_false_positive_rates_are_refused_with_the_number_needed():
    outcome = outcome_of(level_of([1.0], n=200))
    metrics = {finding.metric for finding in outcome.findings}
    assert metrics == {"auc", "tpr@0.1"}
    assert any("1,000" in line for line in outcome.refused)
    assert any("10,000" in line for line in outcome.refused)
    assert {row.metric for row in outcome.power} == {"auc", "tpr@0.1"}


def test_too_few_units_say_nothing():
    outcome = outcome_of(level_of([5.0], n=5))
    assert outcome.findings == ()
    assert "needs 10 each" in outcome.refused[0]


def test_confounded_scores_make_no_claim():
    outcome = outcome_of(level_of([3.0]), confounded=True)
    assert all(finding.severity is Severity.NONE for finding in outcome.findings)
    assert all("confounded" in finding.notes[0] for finding in outcome.findings)


def test_infinite_scores_and_constant_scores_are_judged():
    level = level_of([1.0], n=50)
    top = level.attacks[0].score.copy()
    top[:5] = np.inf
    attacks = [
        AttackScores(name="top", score=top, threat=THREAT),
        AttackScores(name="flat", score=np.zeros(100), threat=THREAT),
    ]
    outcome = outcome_of(replace(level, attacks=attacks))
    flat = next(f for f in outcome.findings if f.attack == "flat" and f.metric == "auc")
    assert flat.estimate.value == 0.5
    assert flat.estimate.lo < 0.5 < flat.estimate.hi
    assert all(sum(d.member) == 50 for d in outcome.distributions)


@pytest.mark.parametrize(
    ("confound", "shift", "n", "status"),
    [
        (CLEAN, 3.0, 200, "leaks"),
        (CLEAN, 0.0, 200, "not_detected"),
        (CLEAN, 3.0, 5, "underpowered"),
        (
            replace(CLEAN, separable=True, blind_auc=Estimate(value=0.9, lo=0.8, hi=0.95, n=100, method="x")),
            3.0,
            200,
            "confounded",
        ),
    ],
)
def test_verdicts(confound, shift, n, status):
    outcome = outcome_of(level_of([shift], n=n), confounded=confound.separable)
    answer = verdict(outcome.findings, confound, outcome.power, levels=leak_levels())
    assert answer.status == status
    if status == "not_detected":
        assert "no proof of safety" in answer.sentences[-1]


def test_severity_is_judged_by_the_lower_end():
    assert severity("auc", 0.91) is Severity.CRITICAL
    assert severity("auc", 0.5) is Severity.NONE
    assert severity("tpr@0.01", 0.011) is Severity.LOW
    assert severity("tpr@0.01", 0.31) is Severity.CRITICAL
    assert severity("exposure_bits", 0.9) is Severity.NONE


def test_the_exposed_are_members_ranked_and_named_by_hash_only():
    level = level_of([3.0], n=100)
    ids = [f"person-{i}" for i in range(200)]
    rows = exposed(level, level.attacks[0], ids, "key")
    assert [row.rank for row in rows] == list(range(1, 101))
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    members = {hashed(id_, "key") for id_ in ids[:100]}
    assert {row.unit for row in rows} <= members
    assert not any("person" in repr(row) for row in rows)
    assert hashed("a", "key") != hashed("a", "other key")
