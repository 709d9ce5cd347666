# SPDX-License-Identifier: Apache-2.0
"""Terms that keep what is to be retained: pure functions of the retained rows.

All count answer tokens only. `total_loss` adds them to a method's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reticent.train.unlearning.method import RETAIN_NEEDS, MeanOver, Retain
from reticent.train.unlearning.rows import Rows, log_probability


def retain_nll(rows: Rows) -> Tensor:
    """``-mean over tokens of log p(y)``. Nats a token; lower = better retained.

    >>> import torch
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> rows = Rows(logits=torch.zeros(1, 2, 4), gold=torch.zeros(1, 2, dtype=torch.int64), trained=mask)
    >>> round(retain_nll(rows).item(), 4)
    1.3863
    """
    return -rows.mean_over_tokens(rows.token_values(log_probability))


def retain_kl(rows: Rows) -> Tensor:
    """``mean over tokens of KL(ref ‖ θ) = Σ_v p_ref(v) · [log p_ref(v) - log p(v)]``. Nats a token; 0 = as before.

    The reference is the model before unlearning. The code of open-unlearning divides the sum over all positions by all
    positions, padding and prompt included.

    >>> import torch
    >>> mask, logits = torch.ones(1, 1, dtype=torch.bool), torch.tensor([[[0.0, 0.0]]])
    >>> rows = Rows(
    ...     logits=logits, gold=torch.zeros(1, 1, dtype=torch.int64), trained=mask,
    ...     reference_logits=torch.tensor([[[0.0, 1.0]]]),
    ... )
    >>> round(retain_kl(rows).item(), 4)
    0.1109
    """
    assert rows.reference_logits is not None
    return rows.mean_over_tokens(rows.token_values(_kl, rows.reference_logits))


def retain_hidden(rows: Rows) -> Tensor:
    """Mean square of the way that hidden states have moved from those before unlearning. See `hidden_distance`.

    Squared units of the hidden states; 0 = as before.

    >>> import torch
    >>> rows = Rows(
    ...     logits=torch.zeros(1, 1, 2), gold=torch.zeros(1, 1, dtype=torch.int64),
    ...     trained=torch.ones(1, 1, dtype=torch.bool), hidden=torch.tensor([[[1.0, 3.0]]]),
    ...     reference_hidden=torch.tensor([[[1.0, 1.0]]]),
    ... )
    >>> retain_hidden(rows).item()
    2.0
    """
    assert rows.reference_hidden is not None
    return hidden_distance(rows, rows.reference_hidden)


def hidden_distance(rows: Rows, target: Tensor) -> Tensor:
    """Mean square of ``hidden - target``: mean over D, then over each row's trained positions, then over rows.

    Args:
        rows: with ``hidden [B, S, D]``.
        target: ``[D]`` or ``[B, S, D]``.
    """
    assert rows.hidden is not None
    places = rows.trained.nonzero(as_tuple=True)
    there = target.expand_as(rows.hidden)[places].float()
    square = (rows.hidden[places].float() - there).square().mean(-1)
    # Not by index_add, whose sums differ from run to run on a GPU.
    sums = square.new_zeros(rows.gold.shape).masked_scatter(rows.trained, square).sum(1)
    return rows.mean_over_rows(sums / rows.tokens.clamp(min=1))


def total_loss(forget: Tensor, retain: Tensor | None, *, forget_weight: float, retain_weight: float) -> Tensor:
    """``γ · forget + α · retain``. A term of weight 0 is left out, so that it may be infinite.

    >>> import torch
    >>> total_loss(torch.tensor(2.0), torch.tensor(float("inf")), forget_weight=0.5, retain_weight=0.0).item()
    1.0
    """
    terms = [(forget_weight, forget), *([] if retain is None else [(retain_weight, retain)])]
    return sum((weight * term for weight, term in terms if weight), torch.zeros_like(forget))


def _kl(logits: Tensor, gold: Tensor, reference: Tensor) -> Tensor:
    log_reference = reference.log_softmax(1)
    return (log_reference.exp() * (log_reference - logits.log_softmax(1))).sum(1)


@dataclass(frozen=True, kw_only=True)
class RetainTerm:
    """A term for what is to be retained.

    Args:
        function: of the retained rows.
        needs: fields of the rows that it reads beside logits.
        mean_over: see `Unlearner`.
    """

    function: Callable[[Rows], Tensor]
    needs: frozenset[str]
    mean_over: MeanOver

    def __call__(self, rows: Rows) -> Tensor:
        """The term, without its weight α."""
        return self.function(rows)

    def count(self, rows: Rows) -> int:
        """The number of tokens or rows that the term is a mean over, as `Unlearner.count` of a method."""
        return rows.count(self.mean_over)


def _term(name: Retain, function: Callable[[Rows], Tensor], mean_over: MeanOver) -> RetainTerm:
    return RetainTerm(function=function, needs=RETAIN_NEEDS[name], mean_over=mean_over)


RETAIN_TERMS: Mapping[Retain, RetainTerm | None] = {
    "none": None,
    "nll": _term("nll", retain_nll, "tokens"),
    "kl": _term("kl", retain_kl, "tokens"),
    "hidden": _term("hidden", retain_hidden, "rows"),
}
"""The terms by name."""
