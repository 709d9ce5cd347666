# SPDX-License-Identifier: Apache-2.0
"""Losses come back to the question and kind of answer that they belong to."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.unlearning.benchmarks.answers import answer_losses, answer_texts, mean_nll
from reticent.unlearning.benchmarks.questions import Question

QUESTIONS = [
    Question(prompt="a?", answer="a", paraphrased_answer="aa", wrong_answers=("b", "c"), user="ana"),
    Question(prompt="d?", answer="d"),
    Question(prompt="e?", answer="e", wrong_answers=("f",), user="bo"),
]


def test_losses_come_back():
    texts = answer_texts(QUESTIONS)
    assert [text.answer for text in texts] == ["a", "aa", "b", "c", "d", "e", "f"]
    losses = answer_losses(QUESTIONS, 2.0 * np.arange(7), np.full(7, 2))
    assert losses.answer.tolist() == [0, 4, 5]
    assert losses.right.tolist() == [1, 4, 5]
    assert [wrong.tolist() for wrong in losses.wrong] == [[2, 3], [], [6]]
    assert losses.users == ("ana", "row 1", "bo")
    asked = losses.with_wrong()
    assert (asked.right.tolist(), asked.users) == ([1, 5], ("ana", "bo"))


def test_no_users_are_none():
    assert answer_losses([Question(prompt="", answer="x")], [1.0], [1]).users is None


def test_refusals():
    with pytest.raises(BadInput):
        answer_losses(QUESTIONS, [1.0], [1])
    with pytest.raises(BadInput, match="no truth ratio"):
        answer_losses(QUESTIONS[1:2], [1.0], [1]).with_wrong()
    for nll, tokens in (([-1.0], [1]), ([1.0], [0]), ([np.nan], [1]), ([1.0, 2.0], [1])):
        with pytest.raises(BadInput):
            mean_nll(nll, tokens)
