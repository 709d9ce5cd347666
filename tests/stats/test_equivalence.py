# SPDX-License-Identifier: Apache-2.0
"""Verdicts of equivalence: exactly one for each data set, and the error that each claim promises, by simulation."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import norm

from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.stats.equivalence import LARGEST_MARGIN, VERDICTS, Likeness, equivalence, together_verdict
from reticent.stats.equivalence_margin import EquivalenceDesign, margin_shown
from reticent.stats.intervals import clopper_pearson_lower
from reticent.stats.roc import auc
from reticent.stats.simultaneous import auc_number, sides, together


def draw(rng, forget_units, unseen_units, *, rows=1, alike=0.0, area=0.5, attacks=1, common=0.8):
    """Gaussian scores whose AUC is ``area``; rows of a user share ``alike`` of their variance, attacks ``common``."""
    owner = np.repeat(np.arange(forget_units + unseen_units), rows)
    forget = owner < forget_units
    shift = norm.ppf(area) * math.sqrt(2) * forget
    user, shared = rng.normal(size=forget_units + unseen_units)[owner], rng.normal(size=len(owner))
    scores = {}
    for number in range(attacks):
        noise = math.sqrt(common) * shared + math.sqrt(1 - common) * rng.normal(size=len(owner))
        scores[f"attack {number}"] = math.sqrt(alike) * user + math.sqrt(1 - alike) * noise + shift
    return scores, forget, owner if rows > 1 else None


def verdicts(rng, runs, margin, *units, **how):
    counts = Counter()
    for _ in range(runs):
        scores, forget, users = draw(rng, *units, **how)
        counts[equivalence(scores, forget, users=users, margin=margin).verdict] += 1
    return counts


def too_often(count, runs, rate):
    """True if ``count`` of ``runs`` is more than ``rate`` allows, at 99.9 %."""
    return float(clopper_pearson_lower(count, runs, 0.001)) > rate


CASES = [
    ((60, 160), {}),
    ((3, 8), {"rows": 20, "alike": 0.05}),
    ((60, 160), {"attacks": 4}),
]


@pytest.mark.parametrize(("units", "how"), CASES)
def test_false_claims_stay_within_the_error(units, how):
    """At the margin likeness is claimed in 5 % at most; at 0.5 a departure is, in either direction together."""
    runs = 60 if "attacks" in how else 250
    margin = 0.15
    rng = np.random.default_rng(0)
    for area in (0.5 + margin, 0.5 - margin):
        counts = verdicts(rng, runs, margin, *units, area=area, **how)
        assert not too_often(counts["like unseen"], runs, 0.05), counts
        wrong = "marked by its absence" if area > 0.5 else "still known"
        assert not too_often(counts[wrong], runs, 0.025), counts
    counts = verdicts(rng, runs, margin, *units, area=0.5, **how)
    assert not too_often(counts["still known"] + counts["marked by its absence"], runs, 0.05), counts


def test_users_taken_as_rows_would_claim_too_much():
    """The simulation can fail: alike rows of users, taken as independent, depart from 0.5 far too often."""
    rng = np.random.default_rng(1)
    counts = Counter()
    for _ in range(200):
        scores, forget, _ = draw(rng, 6, 12, rows=15, alike=0.5)
        counts[equivalence(scores, forget, margin=0.15).verdict] += 1
    assert too_often(counts["still known"] + counts["marked by its absence"], 200, 0.05)


def test_optional_stopping_is_paid_for():
    """Ten independent looks, the first "like unseen" of which is taken: false in at most 5 % with ``looks=10``."""
    rng = np.random.default_rng(2)
    runs, looks = 60, 10
    stopped = {1: 0, looks: 0}
    for _ in range(runs):
        tries = [draw(rng, 60, 160, area=0.65) for _ in range(looks)]
        for paid in stopped:
            answers = [equivalence(scores, forget, margin=0.15, looks=paid).verdict for scores, forget, _ in tries]
            stopped[paid] += "like unseen" in answers
    assert not too_often(stopped[looks], runs, 0.05)
    assert too_often(stopped[1], runs, 0.05)


def test_power_is_as_planned():
    rng = np.random.default_rng(3)
    margin = margin_shown(EquivalenceDesign(forget=60, unseen=160))
    counts = verdicts(rng, 400, margin, 60, 160)
    assert 0.74 < counts["like unseen"] / 400 < 0.86
    assert verdicts(rng, 50, margin, 60, 160, area=0.9)["still known"] == 50
    assert verdicts(rng, 50, margin, 60, 160, area=0.05)["marked by its absence"] == 50


def test_rows_are_what_the_intervals_of_their_parts_are():
    rng = np.random.default_rng(4)
    scores, forget, users = draw(rng, 10, 14, rows=5, alike=0.3, area=0.7, attacks=3)
    likeness = equivalence(scores, forget, users=users, margin=0.1, seed=5)
    of = sides(forget, users.astype(object))
    numbers = [auc_number(score, of) for score in scores.values()]
    for row, joint, number in zip(likeness.attacks, together(numbers, confidence=0.95, seed=5), numbers, strict=True):
        plain = together([number], confidence=0.9)[0]
        assert (row.auc.lo, row.auc.hi, row.auc.joint) == (joint.lo, joint.hi, 0.95)
        tested = row.equivalence
        assert (tested.lo, tested.hi, tested.confidence) == pytest.approx((plain.lo, plain.hi, 0.9))
    assert (likeness.forget, likeness.unseen) == (10, 14)


def test_one_attack_without_users_has_delongs_interval():
    rng = np.random.default_rng(5)
    scores, forget, _ = draw(rng, 40, 50, area=0.6)
    (row,) = equivalence(scores, forget, margin=0.1).attacks
    score = scores["attack 0"]
    expected = auc(score[forget], score[~forget])
    assert (row.auc.value, row.auc.lo, row.auc.hi) == pytest.approx((expected.value, expected.lo, expected.hi))


@pytest.mark.parametrize("seed", range(20))
def test_every_data_set_has_one_verdict(seed):
    rng = np.random.default_rng(seed)
    units = rng.integers(1, 12, 2)
    scores, forget, users = draw(
        rng,
        *units,
        rows=int(rng.integers(1, 4)),
        alike=0.3,
        area=rng.uniform(0.01, 0.99),
        attacks=int(rng.integers(1, 4)),
    )
    scores = {name: np.round(score, int(rng.integers(0, 2))) for name, score in scores.items()}
    likeness = equivalence(scores, forget, users=users, margin=float(rng.uniform(0.02, 0.4)))
    assert likeness.verdict in VERDICTS
    assert likeness.reason.endswith(".")


def test_few_units_or_a_wide_margin_show_no_likeness_but_a_departure():
    rng = np.random.default_rng(6)
    scores, forget, _ = draw(rng, 300, 300)
    assert equivalence(scores, forget, margin=LARGEST_MARGIN).verdict == "like unseen"
    wide = equivalence(scores, forget, margin=0.21)
    assert (wide.verdict, "0.2" in wide.reason) == ("too few to tell", True)
    few, sides_of_few, _ = draw(rng, 4, 4)
    assert equivalence(few, sides_of_few, margin=0.2).verdict == "too few to tell"
    far, sides_of_far, _ = draw(rng, 12, 12, area=0.9999)
    assert equivalence(far, sides_of_far, margin=0.3).verdict == "still known"


def test_many_rows_of_one_person_say_nothing():
    scores = {"loss": np.r_[np.full(200, 9.0) + np.arange(200), np.arange(50)]}
    users = ["one"] * 200 + [f"other {number}" for number in range(50)]
    likeness = equivalence(scores, np.arange(250) < 200, users=users, margin=0.1)
    (row,) = likeness.attacks
    assert (likeness.verdict, row.auc.lo, row.auc.hi) == ("too few to tell", 0.0, 1.0)
    assert row.auc.value > 0.9


def test_alike_wins_over_a_small_difference_that_is_shown_too():
    rng = np.random.default_rng(7)
    scores, forget, _ = draw(rng, 4000, 4000, area=0.53)
    likeness = equivalence(scores, forget, margin=0.1)
    assert likeness.attacks[0].auc.lo > 0.5
    assert (likeness.verdict, likeness.attacks[0].beyond_margin) == ("like unseen", False)


def test_constant_scores_and_separated_scores():
    forget = np.arange(2000) < 1000
    flat = equivalence({"flat": np.zeros(2000)}, forget, margin=0.1)
    assert flat.verdict == "like unseen"
    assert equivalence({"flat": np.zeros(60)}, forget[970:1030], margin=0.1).verdict == "too few to tell"
    apart = equivalence({"apart": np.where(forget, -np.inf, 1.0)}, forget, margin=0.1)
    assert (apart.verdict, apart.attacks[0].beyond_margin) == ("marked by its absence", True)


def test_attacks_that_disagree_give_the_departure_that_is_further():
    near, far = (Estimate(value=value, lo=value - 0.02, hi=value + 0.02, n=100, method="") for value in (0.56, 0.1))
    assert together_verdict(["still known", "marked by its absence"], [near, far]) == "marked by its absence"
    assert together_verdict(["like unseen", "still known"], [near, near]) == "still known"
    assert together_verdict(["like unseen", "like unseen"], [near, near]) == "like unseen"


def test_the_words_are_fixed():
    assert VERDICTS == ("like unseen", "still known", "marked by its absence", "too few to tell")


def test_many_looks_take_bonferroni_and_are_wider():
    rng = np.random.default_rng(8)
    scores, forget, _ = draw(rng, 60, 160, attacks=3)
    rows = [equivalence(scores, forget, margin=0.15, looks=looks).attacks[0].auc for looks in (1, 4, 40)]
    widths = [row.hi - row.lo for row in rows]
    assert widths == sorted(widths)
    assert widths[0] < widths[1] < widths[2]


def test_it_can_be_written_and_read():
    rng = np.random.default_rng(9)
    scores, forget, users = draw(rng, 5, 8, rows=3, alike=0.3, area=0.7, attacks=2)
    likeness = equivalence(scores, forget, users=users, margin=0.1)
    assert decode(Likeness, json.loads(json.dumps(encode(likeness)))) == likeness


@pytest.mark.parametrize(
    ("scores", "forget", "how"),
    [
        ({}, [True, False], {}),
        ({"a": [1.0, 2.0]}, [1, 0], {}),
        ({"a": [1.0, 2.0]}, [True, True], {}),
        ({"a": [1.0, 2.0]}, [False, False], {}),
        ({"a": [1.0, 2.0, 3.0]}, [True, False], {}),
        ({"forget": [1.0, np.nan]}, [True, False], {}),
        ({"a": [1.0, 2.0]}, [True, False], {"users": ["x"]}),
        ({"a": [1.0, 2.0]}, [True, False], {"margin": 0.5}),
        ({"a": [1.0, 2.0]}, [True, False], {"margin": 0.0}),
        ({"a": [1.0, 2.0]}, [True, False], {"looks": 0}),
        ({"a": 1.0}, [True, False], {}),
    ],
)
def test_refusals(scores, forget, how):
    with pytest.raises(BadInput):
        equivalence(scores, np.array(forget), **{"margin": 0.1, **how})
