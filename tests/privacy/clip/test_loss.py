# SPDX-License-Identifier: Apache-2.0
"""The fused loss against cross-entropy and autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.models.encode import IGNORED
from reticent.privacy.clip import token_loss as loss
from reticent.privacy.clip.token_loss import row_losses


def plainly(logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Row by row."""
    losses = []
    for row in range(len(labels)):
        targets = labels[row, 1:]
        trained = targets != IGNORED
        predicted = logits[row, -labels.shape[1] :][:-1].float()
        zero = logits[row].float().sum() * 0
        losses.append(weight[row] * F.cross_entropy(predicted[trained], targets[trained]) if trained.any() else zero)
    return torch.stack(losses)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 4),
    tokens=st.integers(1, 6),
    virtual=st.integers(0, 3),
    chunk=st.sampled_from([1, 20, 2**22]),
    seed=st.integers(0, 10_000),
)
def test_loss_and_gradient(rows: int, tokens: int, virtual: int, chunk: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = (5 * torch.randn(rows, tokens + virtual, 7, generator=draw)).requires_grad_(True)
    labels = torch.randint(0, 7, (rows, tokens), generator=draw)
    labels = labels.where(torch.rand(rows, tokens, generator=draw) < 0.7, torch.tensor(IGNORED))
    weight = torch.rand(rows, generator=draw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "_CHUNK", chunk)
        found = row_losses(logits, labels, weight)
    expected = plainly(logits, labels, weight)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    outer = torch.rand(rows, generator=draw)
    for way in (torch.ones(rows), outer):
        (a,) = torch.autograd.grad(found, logits, way, retain_graph=True)
        (b,) = torch.autograd.grad(expected, logits, way, retain_graph=True)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_bfloat16_logits_lose_nothing_on_the_way() -> None:
    logits = torch.randn(3, 9, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    found = row_losses(logits, labels, torch.ones(3))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plainly(logits, labels, torch.ones(3)), rtol=1e-6, atol=1e-6)
