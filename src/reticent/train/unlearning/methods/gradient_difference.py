# SPDX-License-Identifier: Apache-2.0
"""Gradient difference (Liu et al., "Continual Learning and Private Unlearning", CoLLAs 2022; in TOFU, Maini et al.,
COLM 2024): ascent on what is to be forgotten, descent on what is to be retained."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.methods.gradient_ascent import gradient_ascent
from reticent.train.unlearning.rows import Rows


@unlearner("gradient_difference", retain="nll", learning_rate=1e-5, epochs=10, paper="arXiv:2401.06121")
def gradient_difference(forget: Rows) -> Tensor:
    """Gradient ascent on the forget rows beside the plain loss of retained rows.

    Loss: ``mean over tokens of log p(y)``, as of `gradient_ascent`; beside it α times the plain loss of retained rows.

    Unit: nats a token. Direction: falls. Source: TOFU, section 3; open-unlearning has γ = α = 1.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> rows = Rows(logits=torch.zeros(1, 1, 2), gold=torch.zeros(1, 1, dtype=torch.int64), trained=mask)
        >>> round(gradient_difference(rows).item(), 4)
        -0.6931
    """
    return gradient_ascent(forget)
