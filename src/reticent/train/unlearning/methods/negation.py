# SPDX-License-Identifier: Apache-2.0
"""Task-vector negation (Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023; as unlearning in MUSE, Shi et
al., ICLR 2025): the weights go the other way than a training on the forget rows would take them."""

from __future__ import annotations

import torch
from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import Positive


@unlearner("negation", kind="weights", direction="none", learning_rate=1e-5, epochs=5, paper="arXiv:2212.04089")
def negation(weight: Tensor, overfitted: Tensor, *, alpha: Positive = 1.0) -> Tensor:
    """Takes the weights away from where overfitting on the forget rows leads, in one go.

    Weights: ``θ - α · (θ_over - θ)``, θ_over being θ trained on the forget rows alone.

    Unit: of weights. Direction: none is declared, as nothing bounds how far it goes. Source: Ilharco et al.;
    learning rate 1e-5 and 5 epochs of the training that overfits, α = 1 from MUSE's code, which searches α in 1, 2, 4,
    8, 16. MUSE computes in bfloat16; ours in float32, as a small step would be rounded away.

    Args:
        weight: θ, any float dtype.
        overfitted: of the same shape.
        alpha: how far.

    Returns:
        of the dtype of ``weight``. Tensors of whole numbers are returned as they are.

    Examples:
        >>> negation(torch.tensor([1.0]), torch.tensor([1.5]), alpha=2.0).tolist()
        [0.0]
    """
    if not weight.is_floating_point():
        return weight
    exact = torch.promote_types(weight.dtype, torch.float32)
    return (weight.to(exact) - alpha * (overfitted.to(exact) - weight.to(exact))).to(weight.dtype)
