# SPDX-License-Identifier: Apache-2.0
"""The promise in words and as JSON, and what it bounds."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from reticent.core.errors import BadInput
from reticent.privacy.guarantee import PrivacyGuarantee, auroc_bound, covered_spans
from reticent.privacy.spec import RELATIONS
from reticent.privacy.tradeoff import AttackLimits
from reticent.stats.epsilon import gdp_epsilon

PROMISE = PrivacyGuarantee(
    epsilon=7.99999,
    delta=1e-5,
    unit="user",
    neighbouring="add or remove one user",
    mechanism="Poisson-sampled Gaussian mechanism",
    accountant="PLD accountant",
    noise_multiplier=1.312,
    rate=0.064,
    steps=120,
    units=2000,
    check=8.8,
)


ALLOWED = AttackLimits(
    auc=0.66538,
    tpr_at_1pct_fpr=0.047377,
    tpr_at_10pct_fpr=0.256716,
    mu=0.720929,
    roc=((0.0, 1e-5), (0.3, 0.9), (1.0, 1.0)),
)


def test_sentence():
    assert replace(PROMISE, allowed=ALLOWED).sentence() == (
        "ε = 8.00 per user at δ = 1e-05 (add or remove one user; Poisson-sampled Gaussian mechanism, PLD accountant; "
        "σ = 1.31, rate 0.064, 120 steps). So no attack on one user can have an AUC above 0.666, or find more than "
        "4.8 % of the users at 1 % false alarms"
    )


def test_without_a_curve_the_limits_are_those_of_epsilon_and_delta():
    assert "AUC above 1.000, or find more than 100.0 %" in PROMISE.sentence()
    assert PROMISE.auroc == pytest.approx(auroc_bound(PROMISE.epsilon, PROMISE.delta), abs=2e-6)
    weak = replace(PROMISE, epsilon=1.0, delta=1e-4).most
    assert weak.tpr_at_1pct_fpr == pytest.approx(math.e * 0.01 + 1e-4, abs=2e-6)
    assert weak.tpr_at_10pct_fpr == pytest.approx(math.e * 0.1 + 1e-4, abs=2e-6)
    assert gdp_epsilon(weak.mu, 1e-4) >= 1.0


def test_what_is_covered_and_what_is_implied_are_said():
    covers = covered_spans(0.9)
    implied = ((2, 17.0), (10, 123.451))
    spans = replace(PROMISE, unit="record", covers=covers, implied=implied).sentence()
    assert f", covering {covers}. So no attack on the marked spans of one record can have" in spans
    assert spans.endswith(
        ". For a user with 2 records ε = 17.00 per user at δ = 1e-05, for a user with 10 records ε = 123.46 per user "
        "at δ = 1e-05 (add or remove all marked spans of that user)"
    )
    whole = replace(PROMISE, implied=implied, relation="zero_out").sentence()
    assert whole.endswith("(zero out all records of that user)")
    assert "covering" not in whole


@pytest.mark.parametrize(
    ("recall", "said"),
    [
        (0.9, "the detector's recall is 0.9: a share of 0.1 of the personal data has no guarantee"),
        (0.995, "the detector's recall is 0.995: a share of 0.005 of the personal data has no guarantee"),
        (1.0, "all personal data is said to be marked"),
    ],
)
def test_the_recall_of_the_detector_is_part_of_the_promise(recall, said):
    assert covered_spans(recall) == (
        f"the content of the marked spans alone (where they are, and all other text, counts as public; {said})"
    )


@settings(deadline=None)
@given(epsilon=st.floats(0, 1e4))
def test_every_epsilon_has_unit_and_delta_and_is_not_rounded_down(epsilon):
    said = replace(PROMISE, epsilon=epsilon, implied=((3, epsilon), (9, epsilon))).sentence()
    assert len(re.findall(r"ε = \d+\.\d\d per user at δ = 1e-05", said)) == said.count("ε") == 3
    assert float(re.search(r"ε = (\S+)", said)[1]) >= epsilon - 1e-8
    assert float(re.search(r"ε = (\S+)", said)[1]) <= epsilon + 0.010001


@settings(deadline=None)
@given(
    epsilon=st.floats(0, 1e4),
    delta=st.floats(1e-11, 0.5),
    implied=st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1e6)), max_size=3).map(tuple),
    covers=st.text(max_size=20),
    relation=st.sampled_from(RELATIONS),
    allowed=st.sampled_from([None, ALLOWED]),
)
def test_json_round_trip(epsilon, delta, implied, covers, relation, allowed):
    promise = replace(
        PROMISE, epsilon=epsilon, delta=delta, implied=implied, covers=covers, relation=relation, allowed=allowed
    )
    assert PrivacyGuarantee.from_json(promise.to_json()) == promise


def test_a_file_of_the_first_format_is_read():
    old = json.loads(PROMISE.to_json())
    for name in ("implied", "relation", "allowed"):
        del old[name]
    old |= {"format": 1, "implied": None, "implied_records": None}
    assert PrivacyGuarantee.from_json(json.dumps(old)) == PROMISE
    old |= {"implied": 123.4, "implied_records": 19}
    found = PrivacyGuarantee.from_json(json.dumps(old))
    assert found == replace(PROMISE, implied=((19, 123.4),))
    assert found.allowed is None
    assert "for a user with 19 records ε = 123.40" in found.sentence().replace("For", "for")
    assert PrivacyGuarantee.from_json(found.to_json()) == found


def test_a_file_of_before_owners_were_told_is_read():
    """As of a promise to single sampled units; the ledger counts again before it believes that."""
    old = json.loads(PROMISE.to_json())
    del old["owned"], old["black_box"]
    assert PrivacyGuarantee.from_json(json.dumps(old)) == PROMISE
    with pytest.raises(BadInput, match="owned"):
        replace(PROMISE, owned=0)


def test_json_says_the_sentence():
    assert json.loads(PROMISE.to_json())["statement"] == PROMISE.sentence()


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": math.inf},
        {"epsilon": math.nan},
        {"epsilon": -1.0},
        {"implied": ((3, math.inf),)},
        {"implied": ((-3, 1.0),)},
        {"relation": "swap"},
        {"delta": 0.0},
        {"unit": ""},
    ],
)
def test_what_is_no_promise_is_refused(change):
    with pytest.raises(BadInput):
        replace(PROMISE, **change)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"format": 2}', '{"format": 3}', '{"format": 1, "epsilon": 3}', '{"format": 1, "x": 0}'),
        PROMISE.to_json().replace('"implied": []', '"implied": 3'),
        PROMISE.to_json().replace('"implied": []', '"implied": [[1]]'),
        PROMISE.to_json().replace('"allowed": null', '"allowed": {"roc": []}'),
        PROMISE.to_json().replace('"allowed": null', '"allowed": [1]'),
    ],
)
def test_other_files_are_refused(text):
    with pytest.raises(BadInput, match=r"does not hold a promise|is of format"):
        PrivacyGuarantee.from_json(text)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 8.0, 50.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.1, 1.0])
def test_auroc_bound_is_the_area_under_the_best_line(epsilon, delta):
    false_positive = np.concatenate([[0.0], np.geomspace(1e-25, 1, 400_001)])
    best = np.minimum(np.exp(epsilon) * false_positive + delta, 1 - np.exp(-epsilon) * (1 - delta - false_positive))
    area = np.trapezoid(np.clip(best, 0, 1), false_positive)
    assert auroc_bound(epsilon, delta) == pytest.approx(area, abs=1e-7)


def test_auroc_bound_at_the_ends():
    assert auroc_bound(0, 0) == 0.5
    assert auroc_bound(0, 1) == 1
    assert auroc_bound(1e6, 0) == 1
    assert replace(PROMISE, epsilon=0.0, delta=1e-5).auroc == pytest.approx(0.50001, abs=2e-6)


@settings(deadline=None)
@given(mu=st.floats(0.01, 5), delta=st.floats(1e-9, 0.3))
def test_no_attack_on_the_gaussian_mechanism_passes_the_bound(mu, delta):
    """The best AUROC against μ-GDP is Φ(μ/√2)."""
    assert norm.cdf(mu / math.sqrt(2)) <= auroc_bound(gdp_epsilon(mu, delta), delta) + 1e-9
