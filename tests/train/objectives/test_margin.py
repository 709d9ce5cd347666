# SPDX-License-Identifier: Apache-2.0
"""The margin regulariser against a loop over tokens, golden values, and its gradient at the bound."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reticent.core.errors import BadInput
from reticent.train.config import TuneConfig
from reticent.train.objectives.as_text import parse_objectives
from reticent.train.objectives.margin import Margin, margin_loss, token_margin


def naive(logits: torch.Tensor, gold: torch.Tensor, bound: float, weight: float) -> list[float]:
    """By the definition, a token at a time in float64."""
    losses = []
    for scores, token in zip(logits.double().tolist(), gold.tolist(), strict=True):
        total = sum(math.exp(score - max(scores)) for score in scores)
        chance = math.exp(scores[token] - max(scores)) / total
        rest = sum(math.exp(s - max(scores)) for place, s in enumerate(scores) if place != token) / total
        losses.append(-math.log(chance) + weight * max(0.0, math.log(chance / rest) - bound))
    return losses


@pytest.mark.parametrize("bound", [-1.0, 0.0, 2.0, 6.0])
@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_it_is_its_naive_twin(bound: float, weight: float) -> None:
    torch.manual_seed(0)
    logits, gold = 4 * torch.randn(60, 11), torch.randint(0, 11, (60,))
    loss = margin_loss(logits, gold, bound=bound, weight=weight)
    assert loss.tolist() == pytest.approx(naive(logits, gold, bound, weight), rel=1e-4, abs=1e-5)


def test_golden_values() -> None:
    # p = (2/3, 1/3): margin log 2 for the first token, -log 2 for the second.
    logits = torch.tensor([[math.log(2.0), 0.0], [math.log(2.0), 0.0]])
    gold = torch.tensor([0, 1])
    assert token_margin(logits, gold).tolist() == pytest.approx([math.log(2), -math.log(2)], rel=1e-6)
    loss = margin_loss(logits, gold, bound=0.0, weight=1.0)
    assert loss.tolist() == pytest.approx([math.log(1.5) + math.log(2), math.log(3)], rel=1e-6)


def test_below_the_bound_it_is_the_cross_entropy_in_value_and_gradient() -> None:
    torch.manual_seed(1)
    logits = torch.randn(20, 7, requires_grad=True)
    gold = torch.randint(0, 7, (20,))
    plain = F.cross_entropy(logits, gold, reduction="none")
    bounded = margin_loss(logits, gold, bound=40.0, weight=1.0)
    assert torch.allclose(bounded, plain, atol=1e-6)
    (expected,) = torch.autograd.grad(plain.sum(), logits)
    (gradient,) = torch.autograd.grad(bounded.sum(), logits)
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_at_weight_one_the_smallest_loss_is_at_the_bound() -> None:
    grid = torch.linspace(-3, 8, 1101)
    logits = torch.stack([grid, torch.zeros_like(grid)], dim=1)
    loss = margin_loss(logits, torch.zeros(len(grid), dtype=torch.int64), bound=2.0, weight=1.0)
    assert float(grid[loss.argmin()]) == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("size", [30.0, 300.0, 3000.0])
def test_certain_tokens_give_finite_values_and_gradients(size: float) -> None:
    for sign in (1, -1):
        logits = torch.tensor([[sign * size, 0.0, 1.0]], requires_grad=True)
        loss = margin_loss(logits, torch.tensor([0]), bound=2.0, weight=1.0)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert bool(loss.isfinite().all())
        assert bool(gradient.isfinite().all())
    half = torch.tensor([[size, 0.0]]).to(torch.bfloat16)
    assert margin_loss(half, torch.tensor([0]), bound=2.0, weight=1.0).dtype == torch.float32


def test_it_is_asked_for_by_name_and_bad_settings_are_refused() -> None:
    (chosen,) = parse_objectives("margin(bound=3.0)")
    assert chosen == Margin(bound=3.0)
    assert chosen.settle(TuneConfig()) == TuneConfig()
    for text in ("margin(weight=0)", "margin(weight=-1.0)", "margin(bound=100.0)", "margin(floor=1.0)"):
        with pytest.raises(BadInput):
            parse_objectives(text)
