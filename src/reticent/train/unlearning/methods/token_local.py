# SPDX-License-Identifier: Apache-2.0
"""Token-local unlearning: only tokens that fine-tuning made unusually more likely are forgotten, as these are what a
text adds to the language.

A token is one of those where its gain in log-probability over the base lies above nearly all that held-out tokens of
the same kind of text gained. The mask works inside any loss (`Rows.narrow`); registered is NPO with it.

The choice by gain, calibrated by held-out tokens, is ours. Its relatives choose tokens by annotated spans (SeUL,
arXiv:2402.05813) or by masking and entropy (TokenUnlearn, arXiv:2605.00364).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reticent.core.errors import BadInput, Underpowered
from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.methods.npo import npo
from reticent.train.unlearning.parts import TokenTail
from reticent.train.unlearning.ranges import Positive
from reticent.train.unlearning.rows import Rows


@unlearner(
    "token_local",
    needs={"reference_logp"},
    retain="nll",
    mean_over="rows",
    tail=TokenTail(),
    learning_rate=1e-5,
    epochs=10,
    paper="arXiv:2404.05868",
)
def token_local(forget: Rows, *, beta: Positive = 0.1) -> Tensor:
    """NPO on the tokens that fine-tuning made unusually more likely; the rest of each row is left alone.

    Loss: ``-(2/β) mean over rows of log σ(-β · [log π(y|x) - log π_ref(y|x)])``, that of `npo`, on rows that
    `token_mask` has narrowed: both log-probabilities are summed over the tokens that stay. A row of which none stays
    takes no part.

    Unit: nats a row. Direction: falls. Source: ours, see the module; loss, β, γ = α = 1 are NPO's.

    Args:
        forget: rows, narrowed.
        beta: see `npo`.

    Examples:
        >>> import torch
        >>> gain, held_out = torch.tensor([[0.1, 3.0]]), torch.linspace(-1, 1, 41)
        >>> rows = Rows(
        ...     logits=torch.zeros(1, 2, 2), gold=torch.zeros(1, 2, dtype=torch.int64),
        ...     trained=torch.ones(1, 2, dtype=torch.bool),
        ... )
        >>> local = rows.narrow(token_mask(gain, held_out), reference_logp=torch.tensor([0.5]).log())
        >>> local.tokens.item(), round(token_local(local).item(), 4)
        (1, 13.8629)
    """
    return npo(forget, beta=beta)


def token_mask(gain: Tensor, held_out: Tensor, *, quantile: float = 0.95) -> Tensor:
    """True where a token gained more than all but a share ``1 - quantile`` of held-out tokens did.

    The threshold is the smallest held-out gain that at least a share ``quantile`` of them do not exceed, so at most
    ``1 - quantile`` of held-out tokens would be taken.

    Args:
        gain: any shape; ``log p_tuned - log p_base`` (nats) of each token. Where it is not a number the mask is False.
        held_out: ``[n]``, the same of tokens that were not trained on.
        quantile: between 0 and 1.

    Returns:
        bool, shaped as ``gain``.

    Raises:
        BadInput: a quantile that is none, or a held-out gain that is not finite.
        Underpowered: too few held-out tokens to see that tail.

    Examples:
        >>> token_mask(torch.tensor([1.0, 2.1, float("nan")]), torch.arange(41) / 20).tolist()
        [False, True, False]
    """
    if not 0 < quantile < 1:
        raise BadInput(f"quantile={quantile!r}", "must be between 0 and 1", "Give 0.95.")
    enough = math.ceil(round(1 / (1 - quantile), 6))
    if held_out.numel() < enough:
        raise Underpowered(
            f"{held_out.numel()} held-out tokens", f"show no tail of {1 - quantile:.3g}", f"Give {enough} or more."
        )
    if not bool(held_out.isfinite().all()):
        raise BadInput("held-out gains", "are not all finite", "Score the held-out tokens again.")
    rank = math.ceil(round(quantile * held_out.numel(), 6))
    return gain > torch.kthvalue(held_out.flatten(), rank).values
