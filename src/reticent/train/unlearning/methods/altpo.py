# SPDX-License-Identifier: Apache-2.0
"""AltPO, alternate preference optimization (Mekala et al., COLING 2025): alternatives are plausible other answers that
the model itself has written, so that it goes on to answer, and only not this."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.methods.dpo import pairs, preference
from reticent.train.unlearning.ranges import Positive
from reticent.train.unlearning.rows import Rows


@unlearner(
    "altpo",
    needs={"reference_logp", "alternative"},
    alternative="sampled",
    retain="nll",
    mean_over="rows",
    counted=pairs,
    learning_rate=2e-5,
    epochs=10,
    paper="arXiv:2409.13474",
)
def altpo(forget: Rows, *, beta: Positive = 0.1) -> Tensor:
    """Prefers other answers, sampled from the model itself, to the one that is to be forgotten.

    Loss: that of `dpo`. Only the alternatives differ.

    Unit: nats a row. Direction: falls. Source: Mekala et al. The authors give a grid (β 0.05, 0.1, 0.5;
    learning rate 1e-5, 2e-5, 5e-5; α 1, 2, 5); the defaults are its middle, α its first.

    Args:
        forget: rows with ``alternative``.
        beta: larger dies out sooner.

    Examples:
        >>> import torch
        >>> shared = {"gold": torch.zeros(1, 1, dtype=torch.int64), "trained": torch.ones(1, 1, dtype=torch.bool)}
        >>> shared |= {"logits": torch.zeros(1, 1, 2), "reference_logp": torch.tensor([0.5]).log()}
        >>> round(altpo(Rows(**shared, alternative=Rows(**shared))).item(), 4)
        13.8629
    """
    return preference(forget, beta=beta)
