# SPDX-License-Identifier: Apache-2.0
"""Direct preference for refusals (Rafailov et al., NeurIPS 2023; as unlearning "DPO" or "IdkDPO" in TOFU, Maini et al.,
COLM 2024): "I don't know" is to be said in the place of what is forgotten."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import Positive
from reticent.train.unlearning.rows import Rows


def pairs(forget: Rows) -> int:
    """The number of rows of which both texts have a trained token."""
    assert forget.alternative is not None
    return int(((forget.tokens > 0) & (forget.alternative.tokens > 0)).sum().item())


@unlearner(
    "dpo",
    needs={"reference_logp", "alternative"},
    alternative="refusal",
    retain="nll",
    mean_over="rows",
    counted=pairs,
    learning_rate=1e-5,
    epochs=10,
    paper="arXiv:2305.18290",
)
def dpo(forget: Rows, *, beta: Positive = 0.1) -> Tensor:
    """Prefers another answer ("I don't know") to the one that is to be forgotten.

    Loss: ``-(2/β) mean over rows of log σ(β · [ratio(alternative) - ratio(forget)])`` with ``ratio = log π(y|x) -
    log π_ref(y|x)``, summed over answer tokens. The reference is the tuned model before unlearning.

    Unit: nats a row. Direction: falls. Source: Rafailov et al., equation 7, with open-unlearning's factor 2/β, which
    `reticent.train.objectives.dpo` does not have: 13.86 before the first step, not 0.69. A row of which either text has
    no trained token takes no part.

    Args:
        forget: rows with ``alternative``.
        beta: larger dies out sooner.

    Examples:
        >>> import torch
        >>> shared = {"gold": torch.zeros(1, 1, dtype=torch.int64), "trained": torch.ones(1, 1, dtype=torch.bool)}
        >>> shared |= {"logits": torch.zeros(1, 1, 2), "reference_logp": torch.tensor([0.5]).log()}
        >>> round(dpo(Rows(**shared, alternative=Rows(**shared))).item(), 4)
        13.8629
    """
    return preference(forget, beta=beta)


def preference(forget: Rows, *, beta: float) -> Tensor:
    """See `dpo`; the alternatives may come from anywhere."""
    better = forget.alternative
    assert forget.reference_logp is not None
    if better is None or better.reference_logp is None:
        raise ValueError("preference needs alternatives that have reference_logp")
    gain = (better.logp - better.reference_logp) - (forget.logp - forget.reference_logp)
    return forget.mean_over_rows(-2 / beta * logsigmoid(beta * gain), also=better.tokens > 0)
