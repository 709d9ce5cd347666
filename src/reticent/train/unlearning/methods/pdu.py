# SPDX-License-Identifier: Apache-2.0
"""PDU, primal-dual unlearning (Entesari et al., "Constrained Entropic Unlearning", NeurIPS 2025): logits of forget rows
are flattened, under the constraint that the retain loss stays below a limit; its weight is learned."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.parts import Dual
from reticent.train.unlearning.rows import Rows


@unlearner(
    "pdu",
    retain="nll",
    retain_weight=50.0,
    dual=Dual(),
    learning_rate=1e-5,
    epochs=10,
    paper="arXiv:2506.05314",
)
def pdu(forget: Rows) -> Tensor:
    """Flattens the logits of forget rows as far as the retain loss allows.

    Loss: ``mean over tokens of (max_v z_v - mean_v z_v)²``. It does not ask for the true token: where another one is on
    top it is that one which falls.

    Unit: squared units of logits. Direction: falls, of rows that the model knows. Source: Entesari et al.
    The weight of the retain term starts at 50 (README: 50 or 100) and is learned by `dual_update`: step 1 and 5 epochs
    of warm-up as in open-unlearning's configuration; its script for TOFU has start 100, step 5, a limit of 0.3. Their
    limit is a number that is read off the retain loss of the start; ours is that loss plus ``retain_slack``.

    The authors' mask is not shifted: it takes the logits at each answer token instead of those that predict it. Here it
    is those that predict it.

    Examples:
        >>> import torch
        >>> rows = Rows(
        ...     logits=torch.tensor([[[2.0, 1.0, 0.0, -1.0]]]), gold=torch.zeros(1, 1, dtype=torch.int64),
        ...     trained=torch.ones(1, 1, dtype=torch.bool),
        ... )
        >>> pdu(rows).item()
        2.25
    """
    return forget.mean_over_tokens(forget.token_values(_of_tokens))


def dual_update(weight: float, retain_loss: float, *, limit: float, step: float) -> float:
    """``max(0, λ + η · (retain loss - ε))``: the weight of the retain term after a step.

    Args:
        weight: λ, before it.
        retain_loss: of the step's retained rows, nats a token.
        limit: ε.
        step: η.

    Examples:
        >>> dual_update(50.0, 0.5, limit=0.25, step=2.0), dual_update(0.1, 0.0, limit=0.25, step=2.0)
        (50.5, 0.0)
    """
    return max(0.0, weight + step * (retain_loss - limit))


def _of_tokens(logits: Tensor, gold: Tensor) -> Tensor:
    return (logits.amax(1) - logits.mean(1)).square()
