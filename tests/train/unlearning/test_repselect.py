# SPDX-License-Identifier: Apache-2.0
"""RepSelect: collapsing a gradient, against the formula direction by direction and token by token."""

from __future__ import annotations

import pytest
import torch

from reticent.core.errors import BadInput
from reticent.train.unlearning.methods.repselect import collapse, principal_directions


def planted(seed: int = 0, tokens: int = 40, out: int = 6, into: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations ``[tokens, in]`` and output gradients ``[tokens, out]`` of a linear layer."""
    made = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, into, generator=made), torch.randn(tokens, out, generator=made)


@pytest.mark.parametrize("components", [1, 3, 6])
def test_strong_directions_become_weak_and_the_others_stay(components: int) -> None:
    acts, grads = planted()
    gradient = grads.T @ acts
    u, s, v = torch.linalg.svd(gradient, full_matrices=False)
    expected = s.clone()
    for k in range(components):
        expected[k] = s[components - 1] ** 2 / s[k]
    collapsed = collapse(gradient, principal_directions(gradient, components))
    torch.testing.assert_close(collapsed, u * expected @ v, rtol=1e-4, atol=1e-4)


def test_collapsing_the_gradient_is_collapsing_activations_and_output_gradients() -> None:
    """The authors' code does this for each token in a hook; the weight gradient is their sum of products."""
    acts, grads = planted(seed=1)
    directions = principal_directions(grads.T @ acts, 4)
    other_acts, other_grads = planted(seed=2)
    summed = torch.zeros(6, 9)
    for act, grad in zip(other_acts, other_grads, strict=True):
        for vector, basis in ((act, directions.right), (grad, directions.left)):
            along = vector @ basis
            vector -= (along - along / (directions.strength / directions.strength.min())) @ basis.T
        summed += torch.outer(grad, act)
    again_acts, again_grads = planted(seed=2)
    torch.testing.assert_close(collapse(again_grads.T @ again_acts, directions), summed, rtol=1e-4, atol=1e-4)


def test_gradients_of_little_rank_and_of_none() -> None:
    """Fewer tokens than directions: those that are only rounding are left alone, and nothing is divided by 0."""
    acts, grads = planted(tokens=2)
    gradient = grads.T @ acts
    directions = principal_directions(gradient, 512)
    assert directions.strength.shape == (2,)
    collapsed = collapse(gradient, directions)
    assert bool(collapsed.isfinite().all())
    s = torch.linalg.svdvals(gradient)[:2]
    # the weaker keeps its strength, the stronger falls below it
    torch.testing.assert_close(torch.linalg.svdvals(collapsed)[0], s[1], rtol=1e-3, atol=1e-4)
    nothing = torch.zeros(6, 9)
    assert torch.equal(collapse(nothing, principal_directions(nothing, 3)), nothing)
    empty = torch.zeros(0, 9)
    assert collapse(empty, principal_directions(empty, 3)).shape == (0, 9)


def test_dtype_and_input_stay() -> None:
    acts, grads = planted()
    gradient = (grads.T @ acts).bfloat16()
    copy = gradient.clone()
    collapsed = collapse(gradient, principal_directions(gradient, 2))
    assert collapsed.dtype == torch.bfloat16
    assert torch.equal(gradient, copy)
    with pytest.raises(BadInput, match="components=0"):
        principal_directions(gradient, 0)


def test_what_is_shared_is_weakened_more_than_what_is_not() -> None:
    """A direction of all rows, and one of a single row: the step goes by the single one."""
    made = torch.Generator().manual_seed(0)
    shared, own = torch.eye(12)[0], torch.eye(12)[5]
    acts = torch.stack([shared + 0.01 * torch.randn(12, generator=made) for _ in range(30)])
    acts[7] += own
    grads = torch.ones(30, 4) + 0.01 * torch.randn(30, 4, generator=made)
    grads[7, 1] = -1
    gradient = grads.T @ acts
    collapsed = collapse(gradient, principal_directions(gradient, 2))
    before, after = ((g @ own).norm() / (g @ shared).norm() for g in (gradient, collapsed))
    assert after > 10 * before
