# SPDX-License-Identifier: Apache-2.0
"""Label smoothing, the floor and both together, each against a loop over records and tokens."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from reticent.train.batches import IGNORED
from reticent.train.objectives.composed_loss import composed_loss
from reticent.train.objectives.label_smoothing import LabelSmoothing, label_smoothing
from reticent.train.objectives.loss_floor import LossFloor, loss_floor

VOCABULARY = 11


def hardened_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, smoothing: float = 0.0, floor: float | None = None
) -> torch.Tensor:
    token = LabelSmoothing(amount=smoothing).token_loss if smoothing else None
    return composed_loss(
        logits, labels, token=token, record=None if floor is None else LossFloor(floor=floor).record_loss
    )


def batch(virtual: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    logits = (3 * torch.randn(4, 7 + virtual, VOCABULARY)).to(dtype).requires_grad_()
    labels = torch.randint(0, VOCABULARY, (4, 7))
    labels[0, 4:] = IGNORED
    labels[1, :3] = IGNORED
    labels[2, 1:] = IGNORED  # its first token is predicted from nothing: nothing is left to train on
    return SimpleNamespace(logits=logits), labels


def naive(outputs: Any, labels: torch.Tensor, smoothing: float, floor: float | None) -> float:
    """By the definitions, a token at a time in float64."""
    total, tokens = 0.0, 0
    ahead = outputs.logits.shape[1] - labels.shape[1]
    for row in range(len(labels)):
        losses = []
        for t in range(1, labels.shape[1]):
            gold = int(labels[row, t])
            if gold == IGNORED:
                continue
            scores = [float(x) for x in outputs.logits[row, ahead + t - 1].detach().double()]
            top = max(scores)
            rest = top + math.log(sum(math.exp(x - top) for x in scores))
            logp = [x - rest for x in scores]
            losses.append(-(1 - smoothing) * logp[gold] - smoothing * sum(logp) / len(logp))
        if losses:
            mean = sum(losses) / len(losses)
            total += len(losses) * (mean if floor is None else abs(mean - floor) + floor)
            tokens += len(losses)
    return total / tokens


@pytest.mark.parametrize("virtual", [0, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("floor", [None, 0.5, 4.0])
def test_it_is_its_naive_twin(virtual: int, smoothing: float, floor: float | None) -> None:
    outputs, labels = batch(virtual)
    found = hardened_loss(outputs.logits, labels, smoothing=smoothing, floor=floor)
    assert found.item() == pytest.approx(naive(outputs, labels, smoothing, floor), rel=1e-5)


def test_with_nothing_on_it_is_the_cross_entropy_in_value_and_gradient() -> None:
    outputs, labels = batch()
    plain = F.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    (expected,) = torch.autograd.grad(plain, outputs.logits)
    for floor in (None, 1e-9):
        found = hardened_loss(outputs.logits, labels, floor=floor)
        (gradient,) = torch.autograd.grad(found, outputs.logits)
        assert found.item() == pytest.approx(plain.item(), rel=1e-6)
        assert torch.allclose(gradient, expected, atol=1e-7)


def test_smoothing_is_that_of_pytorch() -> None:
    torch.manual_seed(1)
    logits, gold = torch.randn(9, VOCABULARY), torch.randint(0, VOCABULARY, (9,))
    expected = F.cross_entropy(logits, gold, label_smoothing=0.2, reduction="none")
    assert torch.allclose(label_smoothing(logits, gold, amount=0.2), expected, atol=1e-6)


def test_below_the_floor_the_gradient_is_turned_round_record_by_record() -> None:
    outputs, labels = batch()
    (plain,) = torch.autograd.grad(hardened_loss(outputs.logits, labels), outputs.logits)
    of_row = [SimpleNamespace(logits=one[None]) for one in outputs.logits]
    mean = [naive(of_row[row], labels[row : row + 1], 0, None) for row in (0, 1, 3)]
    floor = sorted(mean)[1] + 1e-3
    (floored,) = torch.autograd.grad(hardened_loss(outputs.logits, labels, floor=floor), outputs.logits)
    signs = {row: (1 if loss > floor else -1) for row, loss in zip((0, 1, 3), mean, strict=True)}
    assert sorted(signs.values()) == [-1, -1, 1]
    for row, sign in signs.items():
        assert torch.allclose(floored[row], sign * plain[row], atol=1e-7)


def test_the_floor_is_the_smallest_value_that_it_takes() -> None:
    loss = torch.tensor([0.0, 0.5, 2.0, 3.0])
    assert loss_floor(loss, floor=2.0).tolist() == [4.0, 3.5, 2.0, 3.0]


def test_logits_in_bfloat16_are_summed_in_float32() -> None:
    outputs, labels = batch(dtype=torch.bfloat16)
    found = hardened_loss(outputs.logits, labels, smoothing=0.1, floor=1.0)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(naive(outputs, labels, 0.1, 1.0), rel=1e-5)
