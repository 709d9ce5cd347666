# SPDX-License-Identifier: Apache-2.0
"""Margins that sizes can show, against simulation and against each other."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput, Underpowered
from reticent.stats.equivalence_margin import (
    EquivalenceDesign,
    EquivalencePlan,
    intraclass,
    margin_shown,
    plan_equivalence,
    rows_to_show,
)
from reticent.stats.simultaneous import auc_number, sides, together


def design(forget, unseen, **how):
    return EquivalenceDesign(forget=forget, unseen=unseen, **how)


def test_sixty_against_a_hundred_and_sixty_rows_show_thirteen_hundredths():
    """By hand: (t + z)·sqrt((m + n + 1) / 12mn), with both tails of the misses."""
    shown = margin_shown(design(60, 160))
    error = math.sqrt(221 / (12 * 60 * 160))
    assert shown == pytest.approx((student.isf(0.05, 110) + norm.isf(0.1)) * error, rel=0.02)
    assert round(shown, 2) == 0.13


@pytest.mark.parametrize(
    ("rows", "users", "alike"), [((60, 160), (60, 160), 0.0), ((100, 160), (10, 16), 0.1), ((40, 40), (8, 8), 0.05)]
)
def test_the_margin_is_shown_as_often_as_promised(rows, users, alike):
    rng = np.random.default_rng(0)
    margin = margin_shown(design(*rows, forget_users=users[0], unseen_users=users[1], alike=alike))
    owner = np.concatenate([np.arange(rows[0]) % users[0], users[0] + np.arange(rows[1]) % users[1]])
    forget, shown = owner < users[0], 0
    for _ in range(400):
        user = rng.normal(size=sum(users))[owner]
        score = math.sqrt(alike) * user + math.sqrt(1 - alike) * rng.normal(size=len(owner))
        (auc,) = together([auc_number(score, sides(forget, owner.astype(object)))], confidence=0.9)
        shown += 0.5 - margin < auc.lo and auc.hi < 0.5 + margin
    assert 0.73 < shown / 400 < 0.88


@pytest.mark.parametrize(
    "given",
    [
        design(1, 1),
        design(60, 160),
        design(60, 160, forget_users=3, unseen_users=8, alike=0.05),
        design(20, 20, forget_users=1, unseen_users=1),
    ],
)
def test_rows_to_show_is_the_inverse(given):
    sizes = rows_to_show(given, 0.1)
    fewer = max(sizes.forget - 2 * given.forget // given.users[0], 5)
    assert margin_shown(given.scaled(sizes.forget)) <= 0.1 < margin_shown(given.scaled(fewer))
    assert given.scaled(sizes.forget).unseen == sizes.unseen


def test_more_looks_attacks_and_likeness_need_a_wider_margin():
    plain = margin_shown(design(60, 160))
    assert margin_shown(design(60, 160, looks=10)) > plain
    assert margin_shown(design(60, 160, attacks=4)) > plain
    by_user = [
        margin_shown(design(60, 160, forget_users=10, unseen_users=20, alike=alike)) for alike in (0.0, 0.1, 1.0)
    ]
    assert by_user == sorted(by_user)
    assert margin_shown(design(60, 160, forget_users=60, unseen_users=160, alike=1.0)) == plain


def test_too_few_show_nothing():
    assert margin_shown(design(1, 100)) == 0.5
    assert margin_shown(design(60, 160, forget_users=1, unseen_users=8)) == 0.5
    plan = plan_equivalence(design(10, 10))
    assert (plan.margin > 0.2, plan.enough) == (True, False)
    alone = plan_equivalence(design(400, 400, forget_users=2, unseen_users=40, alike=0.0))
    assert (alone.margin, alone.enough) == (0.1, False)


def test_a_plan_takes_the_wanted_margin_where_it_can():
    plan = plan_equivalence(design(500, 500))
    assert (plan.margin, plan.enough) == (0.1, True)
    assert plan.shown < 0.1
    assert decode(EquivalencePlan, json.loads(json.dumps(encode(plan)))) == plan


def test_likeness_of_rows_is_found():
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(200), 5)
    for alike in (0.0, 0.3, 0.8):
        score = math.sqrt(alike) * rng.normal(size=200)[user] + math.sqrt(1 - alike) * rng.normal(size=1000)
        assert intraclass(np.exp(score), user) == pytest.approx(alike, abs=0.08)


def test_refusals():
    for how in ({"alike": 1.5}, {"forget_users": 61}, {"power": 1.5}, {"attacks": 0}, {"unseen_users": 0}):
        with pytest.raises(BadInput):
            design(60, 160, **how)
    with pytest.raises(Underpowered):
        rows_to_show(design(1, 1), 1e-5)
    with pytest.raises(BadInput):
        rows_to_show(design(1, 1), 0.6)
    with pytest.raises(Underpowered):
        intraclass([1.0, 2.0], ["a", "b"])
    with pytest.raises(BadInput):
        intraclass([1.0, 2.0], ["a"])
