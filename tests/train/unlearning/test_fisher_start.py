# SPDX-License-Identifier: Apache-2.0
"""FILA: the start of LoKU's adapter, against its formula row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.train.unlearning.low_rank import low_rank
from reticent.train.unlearning.methods.loku import FisherSum, fisher_start


def planted(out: int = 7, into: int = 5, seed: int = 0) -> tuple[torch.Tensor, FisherSum, FisherSum]:
    made = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, into, generator=made)
    forget = torch.rand(out, into, generator=made) * 40
    retain = torch.rand(out, into, generator=made) * 90
    return weight, FisherSum(forget, 30), FisherSum(retain, 120)


def naive(weight: torch.Tensor, forget: FisherSum, retain: FisherSum, rank: int, scaling: float) -> list[np.ndarray]:
    """Entry by entry in float64; signs of singular vectors are free, so of the adapter its product."""
    out, into = weight.shape
    importance = []
    for i in range(out):
        total = 0.0
        for j in range(into):
            mine = forget.squares[i, j].item() / forget.tokens
            others = retain.squares[i, j].item() / retain.tokens
            total += mine / (1e-5 + others)
        importance.append(math.sqrt(total))
    w = np.array(importance)
    u, s, v = np.linalg.svd(w[:, None] * weight.double().numpy())
    product = np.zeros((out, into))
    for k in range(rank):
        product += s[k] / scaling * np.outer(u[:, k] / (w + 1e-5), v[k])
    return [product, weight.double().numpy() - scaling * product]


@pytest.mark.parametrize(("rank", "scaling"), [(1, 1.0), (2, 2.0), (5, 0.5)])
def test_it_is_that_of_the_formula(rank: int, scaling: float) -> None:
    weight, forget, retain = planted()
    start = fisher_start(weight, forget, retain, rank=rank, scaling=scaling)
    assert start.down.shape == (rank, 5)
    assert start.up.shape == (7, rank)
    product, rest = naive(weight, forget, retain, rank, scaling)
    np.testing.assert_allclose((start.up @ start.down).numpy(), product, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(start.rest.numpy(), rest, rtol=1e-4, atol=1e-5)
    balance = (start.down.norm(dim=1), (start.up * (naive_importance(forget, retain) + 1e-5)[:, None]).norm(dim=0))
    torch.testing.assert_close(*balance, rtol=1e-4, atol=1e-5)  # √S on either side


def naive_importance(forget: FisherSum, retain: FisherSum) -> torch.Tensor:
    return ((forget.squares / forget.tokens) / (1e-5 + retain.squares / retain.tokens)).sum(1).sqrt()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_as_a_whole_is_what_it_was(dtype: torch.dtype) -> None:
    weight, forget, retain = planted(seed=1)
    weight = weight.to(dtype)
    start = fisher_start(weight, forget, retain, rank=3, scaling=4.0)
    torch.testing.assert_close(start.rest + 4 * start.up @ start.down, weight.float(), rtol=1e-5, atol=1e-5)
    assert {part.dtype for part in start} == {torch.float32}
    assert (start.rest - weight.float()).abs().max() > 0.1  # and the weight below is another


def test_rows_of_no_importance_are_left_alone() -> None:
    """A row whose gradient was 0 has nothing to forget: the adapter does not reach it, and no number is lost."""
    weight, forget, retain = planted()
    squares = forget.squares.clone()
    squares[2] = 0
    start = fisher_start(weight, FisherSum(squares, 30), retain, rank=3, scaling=2.0)
    assert bool(torch.isfinite(torch.cat([part.flatten() for part in start])).all())
    torch.testing.assert_close(start.rest[2], weight[2], rtol=0, atol=1e-6)
    none = fisher_start(weight, FisherSum(torch.zeros(7, 5), 30), retain, rank=3, scaling=2.0)
    torch.testing.assert_close(none.rest, weight)


def test_it_prefers_what_the_forget_rows_need_more_than_the_others() -> None:
    weight, _, _ = planted()
    needed = torch.ones(7, 5)
    needed[0] = 1e4
    start = fisher_start(weight, FisherSum(needed, 1), FisherSum(torch.ones(7, 5), 1), rank=1, scaling=1.0)
    caught = (start.up @ start.down / weight)[0]
    assert bool((caught > 0.9).all())
    both = fisher_start(weight, FisherSum(needed, 1), FisherSum(needed, 1), rank=1, scaling=1.0)
    assert (both.up @ both.down - start.up @ start.down).abs().max() > 0.1  # retain rows that need it too count against


def test_what_cannot_be_is_refused() -> None:
    weight, forget, retain = planted()
    for change in ({"rank": 0}, {"scaling": 0.0}, {"scaling": -1.0}):
        with pytest.raises(BadInput):
            fisher_start(weight, forget, retain, **({"rank": 2, "scaling": 1.0} | change))
    with pytest.raises(BadInput, match="retain_tokens"):
        fisher_start(weight, forget, FisherSum(retain.squares, 0), rank=2, scaling=1.0)
    with pytest.raises(ValueError, match="shapes must be the same"):
        fisher_start(weight, FisherSum(forget.squares.T, 30), retain, rank=2, scaling=1.0)


def test_projections_find_what_the_exact_decomposition_does() -> None:
    """On a matrix large enough for them, whose strongest directions stand out."""
    made = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(120, 100, generator=made)).Q
    right = torch.linalg.qr(torch.randn(100, 100, generator=made)).Q
    strength = torch.tensor([50.0, 30.0, 20.0] + [0.1] * 97)
    matrix = left * strength @ right.T
    state = torch.random.get_rng_state()
    few = low_rank(matrix, 3, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(few.strength, s[:3], rtol=1e-4, atol=1e-4)
    exact = u[:, :3] * s[:3] @ v[:3]
    torch.testing.assert_close(few.left * few.strength @ few.right.T, exact, rtol=1e-3, atol=1e-3)
    again = low_rank(matrix, 3, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(few, again, strict=True))
    all_of_it = low_rank(matrix, 500, seed=1)
    assert all_of_it.strength.shape == (100,)
    torch.testing.assert_close(all_of_it.left * all_of_it.strength @ all_of_it.right.T, matrix, rtol=1e-3, atol=1e-3)
