# SPDX-License-Identifier: Apache-2.0
"""Margin regulariser: a token that leads by more than a bound is pushed no further, and what lies above it is taxed.

The margin is that of a token's own log-odds: its logit less the log-sum-exp of all others, which is
``log p / (1 - p)``. Fine-tuning makes members known by raising it without end, and so margins of members stand out; a
bounded one leaves nothing above the bound to tell. The kin of what "Deep Marginal Contrastive Defense"
(arXiv:2012.04734) does to features against adversarial inputs; its use against memorization, on log-odds of tokens, is
ours. Label smoothing caps confidence too, for all tokens alike; this leaves tokens below the bound as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reticent.core import validate
from reticent.train.objectives.objective import Objective, objective


@objective("margin", alters={"loss.token"}, paper="arXiv:2012.04734")
@dataclass(frozen=True, kw_only=True)
class Margin(Objective):
    """Log-odds of trained tokens above a bound are penalised.

    Args:
        bound: nats; 2 is a probability of 0.88, 4 one of 0.98.
        weight: of each nat above it. From 1 on the loss rises above the bound; below 1 it only falls more slowly.
    """

    bound: float = 2.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        validate.positive(margin_weight=self.weight)
        validate.in_range(-50, 50, margin_bound=self.bound)

    def token_loss(self, logits: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
        """See `margin_loss`."""
        return margin_loss(logits, gold, bound=self.bound, weight=self.weight)


def token_margin(logits: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """``[n]`` float32, nats: the logit of each token less the log-sum-exp of all others: ``log p / (1 - p)``.

    Args:
        logits: ``[n, V]``, ``V`` of 2 or more.
        gold: ``[n]`` int64.

    >>> token_margin(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([1])).exp()
    tensor([0.5000])
    """
    wide = logits.float()
    others = wide.scatter(1, gold[:, None], float("-inf"))
    return wide.gather(1, gold[:, None])[:, 0] - others.logsumexp(-1)


def margin_loss(logits: torch.Tensor, gold: torch.Tensor, *, bound: float, weight: float) -> torch.Tensor:
    """``[n]`` float32, nats: ``-log p(gold) + weight · max(0, margin - bound)``.

    Args:
        logits: ``[n, V]``.
        gold: ``[n]`` int64.
        bound, weight: see `Margin`.

    Examples:
        >>> margin_loss(torch.tensor([[9.0, 0.0]]), torch.tensor([0]), bound=2.0, weight=1.0).round(decimals=3)
        tensor([7.])
    """
    margin = token_margin(logits, gold)
    return torch.nn.functional.softplus(-margin) + weight * (margin - bound).clamp(min=0)
