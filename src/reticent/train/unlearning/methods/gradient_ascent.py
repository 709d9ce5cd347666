# SPDX-License-Identifier: Apache-2.0
"""Gradient ascent (Jang et al., "Knowledge Unlearning for Mitigating Privacy Risks in Language Models", ACL 2023): the
plain loss with its sign turned. It has no end: the log-probability falls without a bound."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.rows import Rows, log_probability


@unlearner("gradient_ascent", learning_rate=1e-5, epochs=10, paper="arXiv:2210.01504")
def gradient_ascent(forget: Rows) -> Tensor:
    """Makes the forget rows less likely, without a bound and without anything that holds the rest.

    Loss: ``mean over tokens of log p(y)``.

    Unit: nats a token. Direction: falls. Source: Jang et al., ACL 2023; learning rate and epochs as in
    open-unlearning. No retain term.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 2, dtype=torch.bool)
        >>> rows = Rows(logits=torch.zeros(1, 2, 4), gold=torch.zeros(1, 2, dtype=torch.int64), trained=mask)
        >>> round(gradient_ascent(rows).item(), 4)  # log(1/4)
        -1.3863
    """
    return forget.mean_over_tokens(forget.token_values(log_probability))
