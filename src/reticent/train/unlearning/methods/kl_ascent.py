# SPDX-License-Identifier: Apache-2.0
"""KL-regularised ascent ("KL minimization" of TOFU, Maini et al., COLM 2024): ascent on what is to be forgotten, while
predictions on what is to be retained stay near those before."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.methods.gradient_ascent import gradient_ascent
from reticent.train.unlearning.rows import Rows


@unlearner("kl_ascent", retain="kl", learning_rate=1e-5, epochs=10, paper="arXiv:2401.06121")
def kl_ascent(forget: Rows) -> Tensor:
    """Gradient ascent on the forget rows beside KL(before ‖ after) on retained rows.

    Loss: ``mean over tokens of log p(y)``, as of `gradient_ascent`; beside it α times
    `reticent.train.unlearning.retain.retain_kl`.

    Unit: nats a token. Direction: falls. Source: TOFU, section 3; γ = α = 1. The authors' KL counts prompts and padding
    too; ours counts answer tokens only.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> rows = Rows(logits=torch.zeros(1, 1, 2), gold=torch.zeros(1, 1, dtype=torch.int64), trained=mask)
        >>> round(kl_ascent(rows).item(), 4)
        -0.6931
    """
    return gradient_ascent(forget)
