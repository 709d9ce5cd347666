# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from reticent.train.batches import IGNORED
from reticent.train.objectives.dpo import dpo, sequence_logp


def test_log_probabilities_are_sums_over_trained_tokens() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 8, 7), torch.randint(0, 7, (3, 6))  # two virtual tokens in front
    labels[0, :2], labels[1, 3:], labels[2, :] = IGNORED, IGNORED, IGNORED
    found = sequence_logp(logits, labels)
    for row in range(3):
        expected = sum(
            torch.log_softmax(logits[row, 2 + t - 1].double(), -1)[labels[row, t]].item()
            for t in range(1, 6)
            if labels[row, t] != IGNORED
        )
        assert found[row].item() == pytest.approx(expected, abs=1e-5)


def test_the_loss_is_log_two_at_the_base_and_falls_as_the_chosen_gains() -> None:
    chosen, rejected = torch.tensor([-10.0, -8.0, -12.0]), torch.tensor([-20.0, -20.0, -20.0])
    base = torch.full((3,), -10.0), torch.full((3,), -20.0)
    loss = dpo(chosen, rejected, *base, beta=0.5)
    assert loss.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))])


def test_the_gradient_of_the_margin_is_minus_beta_sigma() -> None:
    """Rafailov et al., the gradient below equation 7: weight β · σ(r̂(rejected) - r̂(chosen))."""
    chosen = torch.tensor([-9.0], requires_grad=True)
    rejected = torch.tensor([-19.0], requires_grad=True)
    base_chosen, base_rejected, beta = torch.tensor([-10.0]), torch.tensor([-18.0]), 0.3
    dpo(chosen, rejected, base_chosen, base_rejected, beta=beta).sum().backward()
    margin = beta * ((-9 + 10) - (-19 + 18))
    expected = beta / (1 + math.exp(margin))
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-expected)
    assert rejected.grad.item() == pytest.approx(expected)
