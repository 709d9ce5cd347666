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
from reticent.privacy.statement import Promise, auroc_bound, covered_spans
from reticent.stats.epsilon import gdp_epsilon

PROMISE = Promise(
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


def test_sentence():
    assert PROMISE.sentence() == (
        "ε = 8.00 per user at δ = 1e-05 (add or remove one user; Poisson-sampled Gaussian mechanism, PLD accountant; "
        "σ = 1.31, rate 0.064, 120 steps)"
    )


def test_what_is_covered_and_what_is_implied_are_said():
    covers = covered_spans(0.9)
    spans = replace(PROMISE, unit="record", covers=covers, implied=123.451, implied_records=19).sentence()
    assert f", covering {covers}" in spans
    assert spans.endswith(
        ". For the user with the most records (19) that is ε = 123.46 per user at δ = 1e-05 (add or remove all marked "
        "spans of that user)"
    )
    whole = replace(PROMISE, implied=123.451, implied_records=19).sentence()
    assert whole.endswith("(add or remove all records of that user)")
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
    said = replace(PROMISE, epsilon=epsilon, implied=epsilon, implied_records=3).sentence()
    assert len(re.findall(r"ε = \d+\.\d\d per user at δ = 1e-05 \(add or remove", said)) == said.count("ε") == 2
    assert float(re.search(r"ε = (\S+)", said)[1]) >= epsilon - 1e-8
    assert float(re.search(r"ε = (\S+)", said)[1]) <= epsilon + 0.010001


@settings(deadline=None)
@given(
    epsilon=st.floats(0, 1e4),
    delta=st.floats(1e-11, 0.5),
    implied=st.none() | st.floats(0, 1e6),
    covers=st.text(max_size=20),
)
def test_json_round_trip(epsilon, delta, implied, covers):
    promise = replace(PROMISE, epsilon=epsilon, delta=delta, implied=implied, covers=covers)
    assert Promise.from_json(promise.to_json()) == promise


def test_a_file_of_before_owners_were_told_is_read():
    """As of a promise to single sampled units; the ledger counts again before it believes that."""
    old = json.loads(PROMISE.to_json())
    del old["owned"], old["black_box"]
    assert Promise.from_json(json.dumps(old)) == PROMISE
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
        {"implied": math.inf},
        {"delta": 0.0},
        {"unit": ""},
    ],
)
def test_what_is_no_promise_is_refused(change):
    with pytest.raises(BadInput):
        replace(PROMISE, **change)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "epsilon": 3}', '{"format": 1, "x": 0}']
)
def test_other_files_are_refused(text):
    with pytest.raises(BadInput, match=r"does not hold a promise|is not of format"):
        Promise.from_json(text)


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
    assert replace(PROMISE, epsilon=0.0, delta=1e-5).auroc == pytest.approx(0.50001, abs=1e-9)


@settings(deadline=None)
@given(mu=st.floats(0.01, 5), delta=st.floats(1e-9, 0.3))
def test_no_attack_on_the_gaussian_mechanism_passes_the_bound(mu, delta):
    """The best AUROC against μ-GDP is Φ(μ/√2)."""
    assert norm.cdf(mu / math.sqrt(2)) <= auroc_bound(gdp_epsilon(mu, delta), delta) + 1e-9
