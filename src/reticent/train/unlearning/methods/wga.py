# SPDX-License-Identifier: Apache-2.0
"""WGA, weighted gradient ascent (Wang et al., "Rethinking LLM Unlearning Objectives", ICLR 2025): ascent in which a
token that is already unlikely counts little, so that nothing runs away."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import NonNegative
from reticent.train.unlearning.rows import Rows, log_probability


@unlearner("wga", retain="nll", learning_rate=1e-5, epochs=5, paper="arXiv:2502.19301")
def wga(forget: Rows, *, beta: NonNegative = 1.0) -> Tensor:
    """Ascent on the forget rows, with tokens weighted by their probability.

    Loss: ``mean over tokens of p^β · log p(y)``, the weight p^β without a gradient.

    Unit: nats a token. Direction: falls. Source: Wang et al.; β, γ = α = 1, 5 epochs as in open-unlearning.

    Args:
        forget: rows.
        beta: 0 is gradient ascent.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> rows = Rows(logits=torch.zeros(1, 1, 2), gold=torch.zeros(1, 1, dtype=torch.int64), trained=mask)
        >>> round(wga(rows).item(), 4)  # 0.5 · log 0.5
        -0.3466
    """
    logp = forget.token_values(log_probability)
    return forget.mean_over_tokens((beta * logp.detach()).exp() * logp)
