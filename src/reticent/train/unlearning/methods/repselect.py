# SPDX-License-Identifier: Apache-2.0
"""RepSelect (Sondej, Yang and Mahdi, 2026): ascent by a gradient whose strongest directions are weakened, as those are
shared with what is to be retained and with what a relearner reaches first.

Read from the authors' code (``repselect_simple.py``, the variant of the paper's main experiments). The trainer
(`reticent.train.unlearning.collapsed`) does:

1. Where ``elicit_rate`` is above 0: train an adapter on the forget rows for one epoch by SGD, loss as in fine-tuning.
2. Sum the gradient of the loss below over the batches of one pass of the forget rows, adapter in place, for each
   ``gate``, ``up`` and ``down`` matrix of the MLPs; throw the adapter away.
3. `collapse` each sum by its own `principal_directions`.
4. Each epoch: weight -= learning rate · collapsed gradient. No optimizer has a state; "adam underperforms".

The authors' earlier variant collapses each step's gradient by the directions of the epoch before, and steps by SGD at
0.2 on the gradient made as long as 1. As collapsing is linear on either side, that is `collapse` of the step's gradient
with those directions.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from reticent.core import validate
from reticent.train.unlearning.low_rank import low_rank
from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.methods.gradient_ascent import gradient_ascent
from reticent.train.unlearning.parts import Collapse
from reticent.train.unlearning.rows import Rows

NEGLIGIBLE = 1e-6
"""Directions weaker than this share of the strongest are rounding, and are left alone."""


@unlearner("repselect", collapse=Collapse(), learning_rate=0.05, epochs=10, paper="arXiv:2606.17168")
def repselect(forget: Rows) -> Tensor:
    """Gradient ascent with a gradient that keeps what only the forget rows have in it; made to withstand relearning.

    Loss: ``mean over tokens of log p(y)``, as of `gradient_ascent`; its gradient goes through `collapse`.

    Unit: nats a token. Direction: falls. Source: the authors' code: 512 directions, elicitation at 0.01, learning rate
    0.05 (searched from 0.005 to 0.5). No retain term: the authors stop once the model's other abilities suffer.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> rows = Rows(logits=torch.zeros(1, 1, 2), gold=torch.zeros(1, 1, dtype=torch.int64), trained=mask)
        >>> round(repselect(rows).item(), 4)
        -0.6931
    """
    return gradient_ascent(forget)


class Directions(NamedTuple):
    """Principal directions of a matrix ``[out, in]``: ``left [out, k]``, ``strength [k]`` from large to small, ``right
    [in, k]``."""

    left: Tensor
    strength: Tensor
    right: Tensor


def principal_directions(gradient: Tensor, components: int, *, seed: int = 0) -> Directions:
    """The strongest directions of a gradient ``[out, in]``, float32: at most as many as it has.

    Raises:
        BadInput: no component.

    >>> import torch
    >>> principal_directions(torch.tensor([[3.0, 0.0], [0.0, 0.0]]), 2).strength.tolist()
    [3.0]
    """
    validate.positive(components=components)
    left, strength, right = low_rank(gradient.float(), components, seed=seed)
    firm = strength > NEGLIGIBLE * strength.amax() if len(strength) else strength > 0
    return Directions(left[:, firm], strength[firm], right[:, firm])


def collapse(gradient: Tensor, directions: Directions) -> Tensor:
    """A gradient ``[out, in]`` with each principal direction divided by its strength, on either side.

    ``C_U · G · C_V`` with ``C = I - Σ_k (1 - s_min / s_k) u_k u_kᵀ``, s_min the strength of the weakest of them. Of the
    matrix that the directions are of, the coefficient s_k becomes s_min² / s_k: the strongest become the weakest, and
    what is not among them stays.

    Args:
        gradient: any float dtype; computed with in float32.
        directions: of this or of another gradient of the same shape.

    Returns:
        of the gradient's dtype.

    Examples:
        >>> import torch
        >>> gradient = torch.diag(torch.tensor([4.0, 2.0, 1.0]))
        >>> collapse(gradient, principal_directions(gradient, 2)).diag().tolist()
        [1.0, 2.0, 1.0]
    """
    left, strength, right = directions
    if not len(strength):
        return gradient.clone()
    taken = 1 - strength.amin() / strength
    wide = gradient.float()
    wide = wide - ((wide @ right) * taken) @ right.T
    wide = wide - left @ (taken[:, None] * (left.T @ wide))
    return wide.to(gradient.dtype)
