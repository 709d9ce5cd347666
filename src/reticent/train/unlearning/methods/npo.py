# SPDX-License-Identifier: Apache-2.0
"""Negative preference optimization (Zhang et al., COLM 2024): the half of DPO that dislikes. Its gradient dies out
once a row is much less likely than before, where ascent goes on."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import Positive
from reticent.train.unlearning.rows import Rows


@unlearner(
    "npo",
    needs={"reference_logp"},
    retain="nll",
    mean_over="rows",
    learning_rate=1e-5,
    epochs=10,
    paper="arXiv:2404.05868",
)
def npo(forget: Rows, *, beta: Positive = 0.1) -> Tensor:
    """Makes the forget rows less likely than they were before, with a gradient that dies out.

    Loss: ``-(2/β) mean over rows of log σ(-β · [log π(y|x) - log π_ref(y|x)])``, log-probabilities summed over answer
    tokens. The reference is the tuned model before unlearning, not the base.

    Unit: nats a row. Direction: falls. Source: Zhang et al.; β, γ = α = 1 as in open-unlearning.

    Args:
        forget: rows.
        beta: larger dies out sooner; near 0 it is gradient ascent.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> logits, gold = torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.int64)
        >>> start = Rows(logits=logits, gold=gold, trained=mask, reference_logp=torch.tensor([0.5]).log())
        >>> round(npo(start).item(), 4)  # 2/β · log 2 before the first step
        13.8629
    """
    assert forget.reference_logp is not None
    ratio = forget.logp - forget.reference_logp
    return forget.mean_over_rows(-2 / beta * logsigmoid(-beta * ratio))
