# SPDX-License-Identifier: Apache-2.0
"""RMU, representation misdirection for unlearning (Li et al., "The WMDP Benchmark", ICML 2024): hidden states of the
forget rows are drawn to one random direction."""

from __future__ import annotations

import torch
from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.parts import HiddenLayer
from reticent.train.unlearning.ranges import Index, Positive
from reticent.train.unlearning.retain import hidden_distance
from reticent.train.unlearning.rows import Rows


@unlearner(
    "rmu",
    needs={"hidden"},
    direction="none",
    retain="hidden",
    mean_over="rows",
    hidden=HiddenLayer(layer=7),
    learning_rate=1e-5,
    epochs=10,
    paper="arXiv:2403.03218",
)
def rmu(forget: Rows, *, coefficient: Positive = 2.0, seed: Index = 0) -> Tensor:
    """Draws hidden states of forget rows to a random direction, which garbles what later blocks read.

    Loss: ``mean over rows of mean over answer tokens of mean over d of (h - c · u)²``.

    Unit: squared units of the hidden states. Direction: none, as nothing is said of tokens. Source: Li et al.;
    layer 7, c = 2, α = 1 and all weights trained as in open-unlearning's configuration, whose code has c = 20 and
    the ``down_proj`` of blocks 5 to 7. Its retain term is the same mean square to the states before unlearning.

    Our rows hold the position that *predicts* an answer token, theirs the token's own: here the last token of the
    prompt is drawn away, and the last of the answer is not.

    Args:
        forget: rows with ``hidden``.
        coefficient: c, length of the direction.
        seed: of the direction, see `control_direction`.

    Examples:
        >>> import torch
        >>> hidden = 2 * control_direction(4, seed=0)[None, None]
        >>> mask = torch.ones(1, 1, dtype=torch.bool)
        >>> gold = torch.zeros(1, 1, dtype=torch.int64)
        >>> rmu(Rows(logits=torch.zeros(1, 1, 2), gold=gold, trained=mask, hidden=hidden)).item()
        0.0
    """
    assert forget.hidden is not None
    direction = control_direction(forget.hidden.shape[-1], seed=seed).to(forget.hidden.device)
    return hidden_distance(forget, coefficient * direction)


def control_direction(width: int, *, seed: int) -> Tensor:
    """``[width]`` float32 of length 1, from numbers uniform in [0, 1): all of them positive, not Gaussian.

    >>> u = control_direction(8, seed=1)
    >>> round(u.norm().item(), 5), bool((u >= 0).all())
    (1.0, True)
    """
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()
