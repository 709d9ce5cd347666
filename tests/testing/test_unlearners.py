# SPDX-License-Identifier: Apache-2.0
"""Unlearning methods that do not keep to the rules are caught, each by what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reticent.testing.unlearners import check_unlearner, planted_rows
from reticent.train.unlearning.method import Unlearner
from reticent.train.unlearning.ranges import Positive
from reticent.train.unlearning.rows import Rows

DOC = """A loss of a test.

``mean``. Unit: nats. Direction: falls. Source: none. beta: a number.
"""


def right(forget: Rows, *, beta: Positive = 1.0) -> Tensor:
    return beta * forget.mean_over_rows(forget.logp)


def method(function: Any, **declared: Any) -> Unlearner:
    function.__doc__ = DOC
    usual = {"name": "made_up", "summary": "A loss of a test.", "paper": "arXiv:2404.05868", "mean_over": "rows"}
    return Unlearner(**(usual | {"learning_rate": 1e-5, "epochs": 1, "function": function} | declared))


def test_one_that_keeps_to_the_rules_passes() -> None:
    check_unlearner(method(right))


def climbs(forget: Rows) -> Tensor:
    return -right(forget)


def stands(forget: Rows) -> Tensor:
    return 0 * right(forget) + 1


def reads_padding(forget: Rows) -> Tensor:
    return right(forget) + 1e-3 * forget.logits.mean(-1).mean()


def reads_labels_of_padding(forget: Rows) -> Tensor:
    return right(forget) + 1e-3 * forget.gold.float().mean()


def divides_by_rows(forget: Rows) -> Tensor:
    return forget.logp.sum() / len(forget.gold)


def divides_by_tokens(forget: Rows) -> Tensor:
    return (forget.logp / forget.tokens).mean()


def per_token(forget: Rows) -> Tensor:
    return forget.mean_over_tokens(forget.token_logp[forget.trained])


def of_the_batch(forget: Rows) -> Tensor:
    """Squares what is a mean over the batch."""
    return -right(forget).square() + 0 * forget.logp.sum()


def restless(forget: Rows) -> Tensor:
    return right(forget) * (1 + torch.rand(()).item())


def draws_and_drops(forget: Rows) -> Tensor:
    torch.rand(())
    return right(forget)


def writes(forget: Rows) -> Tensor:
    forget.gold[:, -1] = 0
    return right(forget)


def coarse(forget: Rows) -> Tensor:
    logits = forget.logits[forget.trained]
    logp = logits.log_softmax(-1).gather(1, forget.gold[forget.trained][:, None])
    return forget.mean_over_tokens(logp.float())


def shaped(forget: Rows) -> Tensor:
    return right(forget)[None]


def doubled(forget: Rows) -> Tensor:
    return right(forget).double()


def detached(forget: Rows) -> Tensor:
    return right(forget).detach()


def endless(forget: Rows) -> Tensor:
    return right(forget) + (forget.logp - forget.logp).sqrt().sum()


def greedy(forget: Rows) -> Tensor:
    return right(forget) - forget.reference_logp.mean() * 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("function", "declared", "complaint"),
    [
        (climbs, {}, "does not lower the log-probability"),
        (stands, {}, "the gradient is 0"),
        (reads_padding, {}, "prompt or padding"),
        (reads_labels_of_padding, {}, "prompt or padding changes the loss"),
        (divides_by_rows, {}, "counts"),
        (divides_by_tokens, {}, "a row without a trained token makes the loss nan"),
        (per_token, {}, "micro-batches"),
        (per_token, {"mean_over": "tokens"}, ""),
        (right, {"mean_over": "tokens"}, "micro-batches"),
        (of_the_batch, {"direction": "none"}, "micro-batches"),
        (right, {"counted": lambda forget: 2}, "counts|add up"),
        (restless, {}, "another loss"),
        (draws_and_drops, {}, "random state"),
        (writes, {}, "writes into gold"),
        (coarse, {"mean_over": "tokens"}, "computes in bfloat16"),
        (shaped, {}, "the loss has the shape"),
        (doubled, {}, "not float32"),
        (detached, {}, "no gradient"),
        (endless, {}, "not finite"),
        (greedy, {}, "reads more than it declares"),
        (right, {"summary": "no sentence"}, "whole sentence"),
        (right, {"learning_rate": None}, "learning rate"),
        (right, {"learning_rate": 0.0}, "above 0"),
        (right, {"epochs": None}, "epochs"),
    ],
)
def test_others_are_caught(function: Any, declared: dict[str, Any], complaint: str) -> None:
    made = method(function, **declared)
    if not complaint:
        check_unlearner(made)
        return
    with pytest.raises(AssertionError, match=complaint):
        check_unlearner(made)


def test_settings_without_a_range_or_a_word_are_caught() -> None:
    def bare(forget: Rows, *, beta: float = 1.0) -> Tensor:
        return right(forget)

    def silent(forget: Rows, *, gamma: Positive = 1.0) -> Tensor:
        return right(forget)

    bare.__annotations__["beta"] = float
    with pytest.raises(AssertionError, match="beta needs a range"):
        check_unlearner(method(bare))
    with pytest.raises(AssertionError, match="must say what gamma is"):
        check_unlearner(method(silent))
    undocumented = method(right)
    right.__doc__ = "A loss of a test."
    with pytest.raises(AssertionError, match="must say Unit:"):
        check_unlearner(undocumented)


def test_weights_that_move_where_nothing_is_to_be_gone_away_from_are_caught() -> None:
    def drifts(weight: Tensor, overfitted: Tensor) -> Tensor:
        return weight - (overfitted - weight) + 0.5

    def widens(weight: Tensor, overfitted: Tensor) -> Tensor:
        return weight.float() - (overfitted - weight).float()

    for function, complaint in ((drifts, "leaves alone"), (widens, "another dtype")):
        with pytest.raises(AssertionError, match=complaint):
            check_unlearner(method(function, kind="weights", direction="none"))


def test_planted_rows_are_known_and_of_unlike_lengths() -> None:
    rows = planted_rows("reference_logp", "reference_logits", "alternative", "hidden", "reference_hidden")
    on_top = rows.logits.argmax(-1) == rows.gold
    assert on_top[rows.trained].float().mean() > 0.9
    assert len(set(rows.tokens.tolist())) > 1
    assert not bool(rows.trained[:, 0].any())
    assert not bool(rows.trained.all(1).any())
    assert replace(rows, alternative=None).alternative is None
