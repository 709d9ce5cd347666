# SPDX-License-Identifier: Apache-2.0
"""SatImp (Yang et al., "Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning", ICML 2025): ascent with a
weight of saturation (likely tokens first) times one of importance (certain tokens last)."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import NonNegative
from reticent.train.unlearning.rows import Rows, log_probability


@unlearner(
    "satimp",
    retain="nll",
    forget_weight=0.1,
    retain_weight=1.0,
    presets={
        "config": {"forget_weight": 0.1, "retain_weight": 1.0},
        "readme": {"forget_weight": 1.0, "retain_weight": 0.1},
    },
    learning_rate=1e-5,
    epochs=5,
    paper="arXiv:2505.11953",
)
def satimp(forget: Rows, *, beta1: NonNegative = 5.0, beta2: NonNegative = 1.0) -> Tensor:
    """Ascent on the forget rows, with tokens weighted by saturation and importance.

    Loss: ``mean over tokens of p^β1 · (1 - p)^β2 · log p(y)``, the weights without a gradient.

    Unit: nats a token. Direction: falls. Source: Yang et al.; β1, β2, 5 epochs as in open-unlearning. The
    two weights of its terms contradict each other there: γ = 0.1, α = 1 in its configuration, which is the default, and
    γ = 1, α = 0.1 in its README ("as in the paper", ratio 10); both are in ``presets``.

    Args:
        forget: rows.
        beta1: larger looks at likely tokens only.
        beta2: larger looks away from certain tokens.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> rows = Rows(logits=torch.zeros(1, 1, 2), gold=torch.zeros(1, 1, dtype=torch.int64), trained=mask)
        >>> round(satimp(rows).item(), 5)  # 0.5^6 · log 0.5
        -0.01083
    """
    logp = forget.token_values(log_probability)
    known = logp.detach()
    return forget.mean_over_tokens((beta1 * known).exp() * (-known.expm1()) ** beta2 * logp)
