# SPDX-License-Identifier: Apache-2.0
"""Tokens of the tail: the threshold is that of a count, and the mask works inside any loss."""

from __future__ import annotations

import math

import pytest
import torch

from reticent.core.errors import BadInput, Underpowered
from reticent.testing.unlearners import planted_rows
from reticent.train.unlearning.method import UNLEARNERS
from reticent.train.unlearning.methods.token_local import token_mask


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [100, 137, 1000])
def test_the_mask_is_that_of_a_count(quantile: float, n: int) -> None:
    """Taken where fewer than a share 1 - q of held-out tokens gained as much or more."""
    made = torch.Generator().manual_seed(n)
    held_out = torch.randn(n, generator=made)
    gain = torch.cat([torch.randn(50, generator=made) * 2, held_out[:20]]).reshape(7, 10)
    mask = token_mask(gain, held_out, quantile=quantile)
    for value, taken in zip(gain.flatten().tolist(), mask.flatten().tolist(), strict=True):
        below = sum(other < value for other in held_out.tolist())
        assert taken == (below >= round(quantile * n, 6)), (value, below)
    assert token_mask(held_out, held_out, quantile=quantile).sum().item() <= round((1 - quantile) * n, 6)


def test_ties_are_not_taken_and_what_is_no_number_is_not() -> None:
    held_out = torch.zeros(40)
    gain = torch.tensor([0.0, 1e-6, math.nan, math.inf, -math.inf])
    assert token_mask(gain, held_out).tolist() == [False, True, False, True, False]


def test_what_cannot_show_a_tail_is_refused() -> None:
    gain = torch.zeros(3)
    with pytest.raises(Underpowered, match="Give 20 or more"):
        token_mask(gain, torch.zeros(19))
    token_mask(gain, torch.zeros(20))
    with pytest.raises(Underpowered):
        token_mask(gain, torch.zeros(0), quantile=0.5)
    for quantile in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(BadInput, match="between 0 and 1"):
            token_mask(gain, torch.zeros(99), quantile=quantile)
    for odd in (math.nan, math.inf):
        with pytest.raises(BadInput, match="not all finite"):
            token_mask(gain, torch.cat([torch.zeros(99), torch.tensor([odd])]))


INSIDE = [m.name for m in UNLEARNERS if m.kind == "loss" and not {"alternative"} & m.needs and m.name != "ce_u"]


@pytest.mark.parametrize("name", INSIDE)
def test_inside_any_loss_only_those_tokens_move(name: str) -> None:
    method = UNLEARNERS.get(name)
    rows = planted_rows(*method.needs, seed=3)
    gain = torch.randn(rows.gold.shape, generator=torch.Generator().manual_seed(1))
    mask = token_mask(gain, torch.linspace(-1, 1, 50), quantile=0.5)
    mask[2] = False  # of a row none stays
    logp = (rows.token_logp * mask).sum(1).detach() - 0.5 if "reference_logp" in method.needs else None
    local = rows.narrow(mask, reference_logp=logp)
    leaf = (local.logits if local.hidden is None else local.hidden).requires_grad_()
    loss = method(local)
    (grad,) = torch.autograd.grad(loss, leaf)
    assert bool(loss.isfinite())
    assert bool(grad.isfinite().all())
    moved = grad.abs().sum(-1) > 0
    assert bool((moved <= local.trained).all())
    assert bool(moved.any())
    assert 0 < method.count(local) < method.count(rows)
