# SPDX-License-Identifier: Apache-2.0
"""LoKU (Cha et al., "Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs", ICLR 2025): an inverted
hinge loss, which is bounded, and FILA, an adapter that starts as the part of the weights that the forget rows need."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reticent.core import validate
from reticent.train.unlearning.low_rank import low_rank
from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.parts import FisherLora
from reticent.train.unlearning.rows import Rows

FLOOR = 1e-5
"""Below every divisor, as in the authors' code."""


@unlearner("loku", retain="nll", start=FisherLora(), learning_rate=1e-5, epochs=5, paper="arXiv:2408.06621")
def loku(forget: Rows) -> Tensor:
    """Lowers the true token's probability below that of its strongest rival, and no further.

    Loss: ``mean over tokens of [1 + p(y) - max_{v≠y} p(v)]₊``, the inverted hinge. It lies in [0, 2].

    Unit: probability. Direction: falls. Source: Cha et al. and their code (learning rate 1e-5, 5 epochs, LoRA
    α 32, dropout 0.05, rank 16 of those that they try; with LoRA its scripts have 1e-4 and 2e-4), beside the plain loss
    of retained rows. The adapter starts as `fisher_start` says, which changes the weights below it: the outcome is a
    whole model. The authors' code takes logits that all happen to lie in [0, 1] for probabilities; ours never does.

    Examples:
        >>> import torch
        >>> logits = torch.tensor([[[0.8, 0.1, 0.1], [0.1, 0.6, 0.3]]]).log()
        >>> mask = torch.ones(1, 2, dtype=torch.bool)
        >>> rows = Rows(logits=logits, gold=torch.zeros(1, 2, dtype=torch.int64), trained=mask)
        >>> round(loku(rows).item(), 4)  # mean of 1.7 and 0.5
        1.1
    """
    return forget.mean_over_tokens(forget.token_values(_hinge))


def _hinge(logits: Tensor, gold: Tensor) -> Tensor:
    total = logits.logsumexp(1)
    rival = logits.scatter(1, gold[:, None], float("-inf")).amax(1)
    mine = logits.gather(1, gold[:, None])[:, 0]
    return (1 + (mine - total).exp() - (rival - total).exp()).clamp(min=0)


class FisherSum(NamedTuple):
    """``squares``, shaped as the weight: over batches, the gradient of the mean loss squared, times the batch's trained
    tokens; and ``tokens``, all of them."""

    squares: Tensor
    tokens: int


class FisherStart(NamedTuple):
    """``down [r, in]`` and ``up [out, r]`` of an adapter (LoRA's A and B), and ``rest [out, in]``, the weight below."""

    down: Tensor
    up: Tensor
    rest: Tensor


def fisher_start(
    weight: Tensor, forget: FisherSum, retain: FisherSum, *, rank: int, scaling: float, seed: int = 0
) -> FisherStart:
    """FILA: the start of an adapter as the part of a weight that matters to the forget rows and little to the others.

    ``w = sqrt(row sums of (F_f / n_f) / (1e-5 + F_r / n_r))``; ``U S Vᵀ`` is the best approximation of ``diag(w) · W``
    of that rank; ``S ← S / scaling``; ``down = (V √S)ᵀ``, ``up = diag(1 / (w + 1e-5)) · U √S``, ``rest = W - scaling ·
    up · down``. So the model as a whole is what it was: ``rest + scaling · up · down = W``.

    Args:
        weight: ``[out, in]``, any float dtype; computed with in float32.
        forget, retain: Fisher sums of both kinds of rows.
        rank: r.
        scaling: what the adapter's product is multiplied by, LoRA's α / r.
        seed: of the decomposition, where the matrix is large.

    Returns:
        all float32.

    Raises:
        BadInput: a rank or a scaling that is not above 0, or no trained token.
        ValueError: shapes that differ.

    Examples:
        >>> import torch
        >>> sums = FisherSum(torch.ones(3, 2), 4)
        >>> start = fisher_start(torch.eye(3, 2), sums, sums, rank=2, scaling=2.0)
        >>> torch.allclose(start.rest + 2 * start.up @ start.down, torch.eye(3, 2), atol=1e-6)
        True
    """
    validate.positive(rank=rank, scaling=scaling, forget_tokens=forget.tokens, retain_tokens=retain.tokens)
    if not weight.shape == forget.squares.shape == retain.squares.shape:
        raise ValueError(f"weight {tuple(weight.shape)}, sums {tuple(forget.squares.shape)}: shapes must be the same")
    ratio = (forget.squares.float() / forget.tokens) / (FLOOR + retain.squares.float() / retain.tokens)
    importance = ratio.sum(1).sqrt()
    wide = weight.float()
    left, strength, right = low_rank(importance[:, None] * wide, rank, seed=seed)
    root = (strength / scaling).sqrt()
    down = (right * root).T
    # A row of no importance has no part in the approximation; what rounding leaves of it would be divided by the floor.
    up = torch.where(importance[:, None] > 0, (left * root) / (importance + FLOOR)[:, None], 0.0)
    return FisherStart(down, up, wide - scaling * up @ down)
