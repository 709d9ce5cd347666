# SPDX-License-Identifier: Apache-2.0
"""Comparisons at the user level: fresh texts of both sides, and as many of each user."""

from collections import Counter

import numpy as np

from reticent.attacks.user.aggregate import aggregate
from reticent.auditing.membership.collect import CanaryUserScores, MembershipEvidence
from reticent.auditing.membership.make_levels import canary_users, record_level
from reticent.auditing.membership.users import user_evidence
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.canaries import plant_users
from reticent.data.split import from_labels, split
from reticent.stats.roc import auc


def mails(users=60, per_user=6):
    return [Record(id=f"u{u}m{m}", text=f"{u} {m} " * 6, user=f"u{u}") for u in range(users) for m in range(per_user)]


def evaluated(membership):
    return membership.take(membership.role == "evaluate")


def test_a_split_by_user_compares_fresh_texts_of_both_sides():
    membership = evaluated(split(mails(), unit="user", seed=1))
    users = user_evidence(membership)
    assert not membership.member[users.rows].any()
    assert set(users.users[users.member]) == set(membership.user[membership.user_member & ~membership.member])


def test_coins_thrown_for_records_allow_no_claim_about_users():
    assert user_evidence(evaluated(split(mails(), unit="record", seed=1))) is None


def given(in_texts, out_texts):
    """Forty users who are in, with trained and some fresh texts, and forty who are out with more texts."""
    records, labels = [], {}
    for user in range(80):
        inside = user < 40
        for text in range(in_texts if inside else out_texts):
            record = Record(id=f"{user}-{text}", text="x", user=f"user {user}")
            records.append(record)
            labels[record.id] = inside and text % 2 == 0
    return from_labels(records, labels, known_fraction=0.0)


def test_with_lists_of_ones_own_every_user_shows_the_same_number_of_texts():
    membership = evaluated(given(in_texts=6, out_texts=9))
    users = user_evidence(membership)
    texts = Counter(membership.user[users.rows])
    assert set(texts.values()) == {3}
    assert not membership.member[users.rows].any()


def test_a_model_that_learnt_nothing_shows_no_user_by_any_aggregation():
    """Random scores: the largest of nine would beat the largest of three; 95 % intervals, 30 draws, 3 aggregations.

    Binomial: more than 12 misses of 90 have p < 0.001.
    """
    membership = evaluated(given(in_texts=6, out_texts=9))
    users = user_evidence(membership)
    missed = 0
    for seed in range(30):
        scores = np.random.default_rng(seed).normal(size=len(membership))[users.rows]
        for how in ("mean", "max", "min"):
            _, score = aggregate(scores, membership.user[users.rows].astype(str), how)
            estimate = auc(score[users.member], score[~users.member])
            missed += not estimate.lo <= 0.5 <= estimate.hi
    assert missed <= 12


def test_too_few_users_make_no_level():
    records = mails(users=12)
    assert user_evidence(evaluated(split(records, unit="user", seed=0))) is None


def evidence_of(membership, planted=None):
    scores = np.where(membership.member, 1.0, 0.0) + np.random.default_rng(0).normal(size=len(membership))
    return MembershipEvidence(
        membership=membership,
        scores={"loss": scores},
        notes={},
        dropped=0,
        canary_users=planted,
    )


def test_records_are_compared_within_the_users_who_are_in():
    membership = evaluated(split(mails(), unit="user", seed=1))
    units = record_level(evidence_of(membership), seed=0)
    users = {str(user) for user in membership.user[membership.user_member]}
    assert {id_.split("m")[0] for id_ in units.ids} == users


def test_canary_users_are_a_level_of_their_own():
    records = mails()
    planted = plant_users(records, split(records, unit="user", seed=1), users=24, words=5)
    membership: Membership = planted.membership
    fresh = membership.take((membership.role == "canary") & ~membership.member)
    score = np.where(fresh.user_member, 3.0, 0.0) + np.random.default_rng(1).normal(size=len(fresh))
    units = canary_users(evidence_of(evaluated(membership), CanaryUserScores(membership=fresh, score=score)))
    assert set(units.ids) <= set(planted.phrases)
    level = units.level
    estimate = auc(level.attacks[0].score[level.member], level.attacks[0].score[~level.member])
    assert estimate.lo > 0.7
    assert canary_users(evidence_of(evaluated(membership))) is None
