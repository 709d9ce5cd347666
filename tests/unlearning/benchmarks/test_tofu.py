# SPDX-License-Identifier: Apache-2.0
"""TOFU's numbers: golden values, the constants of its code, and intervals that know authors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput, Underpowered
from reticent.unlearning.benchmarks.answers import AnswerLosses, mean_nll
from reticent.unlearning.benchmarks.tofu import (
    ModelUtility,
    UtilityRows,
    closer_to_one,
    forget_figures,
    forget_quality,
    harmonic_mean,
    model_utility,
    option_probability,
    probability,
    right_share,
    true_better,
    truth_ratio,
    utility_rows,
)

RIGHT, WRONG = [0.5, 1.0], [[1.0, 2.0], [0.5, 0.7]]


def test_golden_values():
    code, paper = truth_ratio(RIGHT, WRONG), truth_ratio(RIGHT, WRONG, variant="paper")
    assert code == pytest.approx([0.367879, 1.491825], abs=1e-6)
    assert paper == pytest.approx([0.414830, 1.499290], abs=1e-6)
    assert closer_to_one(code).mean() == pytest.approx(0.519100, abs=1e-6)
    assert true_better(code).mean() == pytest.approx(0.316060, abs=1e-6)
    assert right_share(RIGHT, WRONG).mean() == pytest.approx(0.566185, abs=1e-6)
    assert option_probability([0.6], [[0.1, 0.2, 0.05]]) == pytest.approx([0.631579], abs=1e-6)
    assert harmonic_mean([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.6, 0.7, 0.8]) == pytest.approx(0.629301, abs=1e-6)


def test_by_definition():
    """Twin: every formula written out for each question."""
    rng = np.random.default_rng(0)
    right = rng.exponential(1.0, 20)
    wrong = [rng.exponential(1.5, rng.integers(1, 6)) for _ in range(20)]
    for row, (loss, others) in enumerate(zip(right, wrong, strict=True)):
        p, geometric = np.exp(-loss), np.exp(-np.mean(others))
        assert truth_ratio(right, wrong)[row] == pytest.approx(geometric / (p + 1e-10))
        assert truth_ratio(right, wrong, variant="paper")[row] == pytest.approx(np.mean(np.exp(-others)) / p)
        assert right_share(right, wrong)[row] == pytest.approx(p / (p + geometric + 1e-10))


def test_probability_counts_the_end():
    """Losses of three tokens and the end-of-text token: four in all."""
    assert probability(mean_nll([2.0], [4])) == pytest.approx([np.exp(-0.5)])


def test_where_answers_are_impossible_the_code_says_its_constant_and_the_paper_the_ratio():
    assert truth_ratio([80.0], [[80.0]]) == pytest.approx([0.0], abs=1e-20)
    assert truth_ratio([80.0], [[80.0]], variant="paper") == pytest.approx([1.0])
    assert truth_ratio([2000.0], [[2000.0, 2000.0]], variant="paper") == pytest.approx([1.0])
    assert np.isinf(truth_ratio([2000.0], [[1.0]], variant="paper"))
    assert closer_to_one([np.inf]).tolist() == [0.0]


def test_harmonic_mean_is_0_with_one_0():
    assert float(harmonic_mean([0.9, 0.0, 0.5])) == 0.0
    assert harmonic_mean([[0.5, 0.0], [0.5, 1.0]]).tolist() == [0.5, 0.0]
    for values in ([], [-0.1, 0.5]):
        with pytest.raises(BadInput):
            harmonic_mean(values)


def test_forget_quality_is_the_p_value_with_its_statistic():
    a, b = [0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.5, 0.7, 0.9, 1.1]
    gap = forget_quality(a, b)
    assert (gap.p_value, gap.statistic.value) == (pytest.approx(0.357143, abs=1e-6), pytest.approx(0.6))
    assert gap.paired
    same = forget_quality(a, a)
    assert (same.p_value, same.statistic.value, same.statistic.hi) == (1.0, 0.0, 0.0)
    with pytest.raises(BadInput):
        forget_quality(a, b[:3])


def losses(rng, n, level, users=None):
    right = np.abs(rng.normal(level, 0.2, n))
    return AnswerLosses(
        answer=right / 2,
        right=right,
        wrong=tuple(np.abs(rng.normal(level + 0.8, 0.2, 3)) for _ in range(n)),
        users=users,
    )


def test_figures_of_the_forget_set():
    rng = np.random.default_rng(1)
    authors = tuple(f"author {row // 10}" for row in range(60))
    of = losses(rng, 60, 1.0, authors)
    figures = forget_figures(of, rng.random(60))
    assert list(figures) == ["probability", "rouge_l_recall", "truth_ratio_code", "truth_ratio_paper", "right_share"]
    assert figures["probability"].value == pytest.approx(np.exp(-of.answer).mean())
    assert figures["truth_ratio_code"].value == pytest.approx(closer_to_one(truth_ratio(of.right, of.wrong)).mean())
    assert all(figure.lo < figure.value < figure.hi and figure.n == 60 for figure in figures.values())
    assert all("6 users" in figure.method for figure in figures.values())
    plain = AnswerLosses(answer=of.answer, right=of.right, wrong=tuple(np.array([]) for _ in range(60)), users=None)
    assert list(forget_figures(plain)) == ["probability"]


def utility_sets(rng, rouge=0.6):
    sets = {}
    for name, n in (("retain", 80), ("real authors", 40), ("world facts", 50)):
        users = tuple(f"author {row // 10}" for row in range(n)) if name == "retain" else None
        sets[name] = utility_rows(
            losses(rng, n, 1.0, users), np.clip(rng.normal(rouge, 0.1, n), 0, 1), options=name != "retain"
        )
    return sets


def test_model_utility_is_the_harmonic_mean_of_nine():
    sets = utility_sets(np.random.default_rng(2))
    found = model_utility(sets)
    assert len(found.parts) == 9
    means = [values.mean() for rows in sets.values() for values in (rows.probability, rows.rouge, rows.truth)]
    assert found.utility.value == pytest.approx(len(means) / sum(1 / mean for mean in means))
    assert found.utility.lo < found.utility.value < found.utility.hi
    assert not found.utility.higher_is_worse
    assert decode(ModelUtility, json.loads(json.dumps(encode(found)))) == found
    assert found.parts["retain: rouge"].value == pytest.approx(sets["retain"].rouge.mean())


def test_utility_intervals_hold():
    """40 repetitions; the means of the Beta distributions are known."""
    truth = float(harmonic_mean([2 / 5, 4 / 6, 1 / 4]))
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(40):
        utility = model_utility({"all": utility_sets_of(rng, 60)}).utility
        missed += not utility.lo <= truth <= utility.hi
    assert missed <= 7


def utility_sets_of(rng, n):
    shares = [rng.beta(a, b, n) for a, b in ((2, 3), (4, 2), (1, 3))]
    return UtilityRows(probability=shares[0], rouge=shares[1], truth=shares[2])


def test_a_part_of_0_makes_the_utility_0():
    rows = UtilityRows(probability=np.zeros(30), rouge=np.full(30, 0.9), truth=np.full(30, 0.9))
    utility = model_utility({"retain": rows}).utility
    assert (utility.value, utility.lo) == (0.0, 0.0)
    assert utility.hi > 0.1


def test_questions_without_wrong_answers_have_no_truth():
    rng = np.random.default_rng(5)
    of = losses(rng, 20, 1.0)
    some = AnswerLosses(answer=of.answer, right=of.right, wrong=(*of.wrong[:15], *[np.array([])] * 5), users=None)
    rows = utility_rows(some, rng.random(20), options=False)
    assert np.isnan(rows.truth).tolist() == [False] * 15 + [True] * 5
    assert model_utility({"own": rows}).parts["own: truth"].n == 15


def test_refusals():
    for right, wrong in (([1.0], []), ([1.0], [[]]), ([np.nan], [[1.0]]), ([1.0], [[np.nan]])):
        with pytest.raises(BadInput):
            truth_ratio(right, wrong)
    with pytest.raises(BadInput):
        truth_ratio(RIGHT, WRONG, variant="other")
    with pytest.raises(BadInput):
        model_utility({})
    half = np.full(5, 0.5)
    for rows in (
        UtilityRows(probability=np.full(5, 1.5), rouge=half, truth=half),
        UtilityRows(probability=half, rouge=np.full(5, np.nan), truth=half),
        UtilityRows(probability=half, rouge=np.full(4, 0.5), truth=half),
        UtilityRows(probability=half, rouge=half, truth=np.full(5, np.nan)),
    ):
        with pytest.raises(BadInput):
            model_utility({"retain": rows})
    with pytest.raises(Underpowered):
        model_utility({"retain": UtilityRows(probability=half, rouge=half, truth=half, users=["ana"] * 5)})
