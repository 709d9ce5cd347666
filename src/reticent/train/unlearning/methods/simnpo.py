# SPDX-License-Identifier: Apache-2.0
"""SimNPO (Fan et al., "Simplicity Prevails", NeurIPS 2025): NPO without a reference, by the mean log-probability of a
token, so that long rows count no more than short ones."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import Finite, Positive
from reticent.train.unlearning.rows import Rows


@unlearner(
    "simnpo",
    retain="nll",
    forget_weight=0.125,
    mean_over="rows",
    learning_rate=1e-5,
    epochs=10,
    paper="arXiv:2410.07163",
)
def simnpo(forget: Rows, *, beta: Positive = 4.5, delta: Finite = 0.0) -> Tensor:
    """Makes forget rows unlikely by their mean loss, with no model to hold them against.

    Loss: ``-(2/β) mean over rows of log σ(β · (NLL(y|x) / |y| - δ))``.

    Unit: nats a token. Direction: falls. Source: Fan et al.; β, δ, γ = 0.125, α = 1 as in open-unlearning.
    The paper's margin is γ_paper = β · δ.

    Args:
        forget: rows.
        beta: larger stops sooner.
        delta: loss (nats a token) that a row should at least have.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> rows = Rows(logits=torch.zeros(1, 1, 2), gold=torch.zeros(1, 1, dtype=torch.int64), trained=mask)
        >>> round(simnpo(rows).item(), 4)
        0.0192
    """
    loss = -forget.logp / forget.tokens.clamp(min=1)
    return forget.mean_over_rows(-2 / beta * logsigmoid(beta * (loss - delta)))
