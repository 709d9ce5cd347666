# SPDX-License-Identifier: Apache-2.0
"""MUSE's numbers: golden values, both conventions and roundings, and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.unlearning.benchmarks.muse import (
    cut_answer,
    few_shot_prompt,
    first_epoch_forgotten,
    forget_auc,
    knowledge_memory,
    min_k,
    priv_leak,
    priv_leak_of,
    relative_difference,
    utility_over,
    verbatim_memory,
)


@pytest.mark.parametrize(
    ("auc", "retrained", "leak", "relative"), [(0.9, 0.5, -80, 80), (0.1, 0.5, 80, -80), (0.9, 0.6, -75, 50)]
)
def test_both_conventions(auc, retrained, leak, relative):
    assert priv_leak(auc, retrained) == pytest.approx(leak)
    assert relative_difference(auc, retrained) == pytest.approx(relative)


def test_ends_of_both_conventions():
    assert priv_leak(1.0, 0.5) == -100
    assert priv_leak(0.0, 0.5) == 100
    assert priv_leak(0.6, 0.6) == relative_difference(0.6, 0.6) == 0
    for function, retrained in ((priv_leak, 1.0), (relative_difference, 0.0), (priv_leak, 1.1)):
        with pytest.raises(BadInput):
            function(0.5, retrained)


@pytest.mark.parametrize("convention", ["muse", "relative"])
def test_the_interval_holds_and_its_value_is_the_number(convention):
    """30 repetitions with users on both sides: AUC 0.76 unlearned, 0.5 retrained, the same rows."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(24), 5)
    forget = user < 12
    truth = {"muse": priv_leak, "relative": relative_difference}[convention](0.760250, 0.5)
    missed = 0
    for _ in range(30):
        common = np.sqrt(0.2) * rng.normal(size=24)[user]
        after, again = (common + np.sqrt(0.8) * rng.normal(size=120) for _ in range(2))
        after = after + forget
        estimate = priv_leak_of(after, again, forget, user, convention=convention)
        missed += not estimate.lo <= truth <= estimate.hi
    assert missed <= 6
    function = {"muse": priv_leak, "relative": relative_difference}[convention]
    assert estimate.value == pytest.approx(function(forget_auc(after, forget), forget_auc(again, forget)))
    assert estimate.higher_is_worse == (convention == "relative")


def test_a_model_that_tells_all_rows_apart_has_an_interval():
    rng = np.random.default_rng(1)
    forget = np.arange(60) < 30
    estimate = priv_leak_of(np.where(forget, 1.0, 0.0), rng.normal(size=60), forget)
    assert estimate.value < -50
    assert estimate.lo <= estimate.value < estimate.hi
    same = rng.normal(size=60)
    assert priv_leak_of(same, same, forget).value == 0


def test_refusals_of_priv_leak():
    forget = np.arange(6) < 3
    x = np.arange(6.0)
    for unlearned, retrained, side, users, error in (
        (x, x[:5], forget, None, BadInput),
        (x, x, np.ones(6, dtype=bool), None, BadInput),
        (np.where(forget, np.nan, 1.0), x, forget, None, BadInput),
        (x, x[::-1], forget, ["a", "a", "a", "b", "c", "d"], Underpowered),
        (x, -x, forget, ["a"], BadInput),
        (x, np.where(forget, 1.0, 0.0), forget, None, BadInput),
    ):
        with pytest.raises(error):
            priv_leak_of(unlearned, retrained, side, users)


def test_min_k_rounds_in_both_ways():
    rng = np.random.default_rng(2)
    texts = [-rng.exponential(1.0, n) for n in (3, 4, 10, 57)]
    for row, tokens in enumerate(texts):
        count = int(len(tokens) * 0.4)
        assert min_k(texts)[row] == pytest.approx(np.sort(tokens)[:count].mean())
    assert min_k([[-3.0, -1.0]], rounding="at_least_one").tolist() == [-3.0]
    assert min_k([[-3.0, -1.0, -2.0]], share=1.0).tolist() == [-2.0]
    with pytest.raises(BadInput, match="whose code gives NaN"):
        min_k([[-3.0, -1.0]])
    for logp, how in (
        ([[]], {}),
        ([[-1.0, np.nan]], {}),
        ([[-1.0] * 9], {"share": 0.0}),
        ([[-1.0] * 9], {"rounding": "up"}),
    ):
        with pytest.raises(BadInput):
            min_k(logp, **how)


def test_memory_of_words_and_of_facts():
    truths = ["the writers lived in Oslo", "she never came back"]
    texts = ["the writer lived in Oslo", "she came"]
    plain, stemmed = verbatim_memory(truths, texts), verbatim_memory(truths, texts, stem=True)
    assert plain.value == pytest.approx((0.8 + 2 / 3) / 2)
    assert stemmed.value == pytest.approx((1.0 + 2 / 3) / 2)
    answers = ["Oslo", "in 1956"]
    known = knowledge_memory(answers, ["Oslo\n\nQuestion: Who?", "in 1956 Question: and"], retained=True)
    assert (known.value, known.higher_is_worse) == (1.0, False)
    assert known.lo < 1


def test_prompts_and_cuts():
    assert few_shot_prompt("Who?") == "Question: Who?\nAnswer: "
    assert cut_answer("a\nQuestion b") == "a"
    assert cut_answer("a Question: b\n\nc") == "a "
    assert cut_answer("plain\nanswer") == "plain\nanswer"


def test_utility_over_requests_is_paired():
    rng = np.random.default_rng(3)
    first = rng.beta(2, 2, 80)
    steps = utility_over({1: first, 2: first - 0.02 * rng.random(80), 4: first * 0.5})
    assert [step.step for step in steps] == [1, 2, 4]
    assert steps[0].change is None
    assert steps[1].change.hi < 0
    assert steps[1].change.hi - steps[1].change.lo < (steps[1].utility.hi - steps[1].utility.lo) / 5
    assert utility_over({1: first, 2: first})[1].change.value == 0
    with pytest.raises(BadInput):
        utility_over({})
    with pytest.raises(BadInput):
        utility_over({1: first, 2: first[:9]})


def test_the_epoch_that_is_kept():
    assert first_epoch_forgotten([0.5, 0.4], 0.3) is None
    assert first_epoch_forgotten([0.5, 0.3, 0.1], 0.3) == 2
