# SPDX-License-Identifier: Apache-2.0
"""Rows of a batch as an unlearning method sees them, and sums over their tokens that spare memory.

Logits are the largest thing in a step. What a method computes of a token it computes in float32, on some tokens at a
time, and again when the gradient is asked for, so that there is never a copy of all logits, in float32 or otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TokenFunction = Callable[..., Tensor]
CHUNK = 2**22
"""Logits that are computed with at a time: 16 MB in float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """A batch of rows, S positions of which each predicts one token.

    Position t of the logits predicts token t of ``gold`` (see `train.shifted`). Where ``trained`` is False nothing is
    read, so anything may stand there. A row without a trained token takes no part in any mean; where no row has one,
    losses are 0 and so is their gradient.

    Args:
        logits: ``[B, S, V]``, of the model that is trained; any float dtype.
        gold: ``[B, S]`` int64, the tokens that are predicted.
        trained: ``[B, S]`` bool, answer tokens.
        reference_logp: ``[B]`` float32, summed log-probability (nats) of the trained tokens under the model before
            unlearning.
        reference_logits: ``[B, S, V]``, of the model before unlearning.
        alternative: ``B`` rows that are to be preferred to these, with their own ``reference_logp``.
        hidden: ``[B, S, D]``, output of a block of the model that is trained.
        reference_hidden: ``[B, S, D]``, the same of the model before unlearning.

    Raises:
        ValueError: shapes that do not fit.

    Examples:
        >>> import torch
        >>> rows = Rows(
        ...     logits=torch.zeros(1, 3, 4), gold=torch.tensor([[0, 2, 1]]), trained=torch.tensor([[False, True, True]])
        ... )
        >>> rows.tokens.item(), round(rows.logp.item(), 4)  # 2 tokens at log(1/4) each
        (2, -2.7726)
    """

    logits: Tensor
    gold: Tensor
    trained: Tensor
    reference_logp: Tensor | None = None
    reference_logits: Tensor | None = None
    alternative: Rows | None = None
    hidden: Tensor | None = None
    reference_hidden: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.gold.shape
        expected = {
            "logits": (self.logits.shape[:-1], shape),
            "trained": (self.trained.shape, shape),
            "reference_logp": (_shape(self.reference_logp), shape[:1]),
            "reference_logits": (_shape(self.reference_logits), self.logits.shape),
            "alternative": (_shape(None if self.alternative is None else self.alternative.gold)[:1], shape[:1]),
            "hidden": (_shape(self.hidden)[:2], shape),
            "reference_hidden": (_shape(self.reference_hidden), _shape(self.hidden)),
        }
        for name, (given, right) in expected.items():
            if getattr(self, name) is not None and tuple(given) != tuple(right):
                raise ValueError(f"{name} has the shape {tuple(given)}, not {tuple(right)}")
        if self.trained.dtype != torch.bool:
            raise ValueError(f"trained is {self.trained.dtype}, not bool")

    @cached_property
    def tokens(self) -> Tensor:
        """``[B]`` int64, trained tokens of each row."""
        return self.trained.sum(1)

    @cached_property
    def token_logp(self) -> Tensor:
        """``[B, S]`` float32, log-probability (nats) of each trained token, 0 elsewhere."""
        values = self.token_values(log_probability)
        return values.new_zeros(self.gold.shape).masked_scatter(self.trained, values)

    @cached_property
    def logp(self) -> Tensor:
        """``[B]`` float32, summed log-probability (nats) of each row's trained tokens."""
        return self.token_logp.sum(1)

    def token_values(self, function: TokenFunction, *beside: Tensor) -> Tensor:
        """``[n]`` float32, a number for each trained token, row by row.

        Args:
            function: ``function(logits [c, V] float32, gold [c], *beside [c, …]) -> [c]``, for some tokens at a time.
                The gradient goes to the logits alone, not to a tensor that the function has from elsewhere.
            beside: ``[B, S, …]``, what else it reads; floats arrive in float32.
        """
        apply: Callable[..., Tensor] = _TokenValues.apply
        return apply(self.logits, self.gold, self.trained, function, *beside)

    def mean_over_tokens(self, values: Tensor) -> Tensor:
        """The mean of ``values [n]``, one for each trained token; 0 where there is none."""
        return values.sum() / max(1, len(values))

    def mean_over_rows(self, values: Tensor, *, also: Tensor | None = None) -> Tensor:
        """The mean of ``values [B]`` over rows that have a trained token; 0 where none has.

        Args:
            values: finite, also for rows that are left out.
            also: ``[B]`` bool, leaves further rows out.
        """
        present = self.tokens > 0 if also is None else (self.tokens > 0) & also
        return torch.where(present, values, 0.0).sum() / present.sum().clamp(min=1)

    def count(self, over: Literal["tokens", "rows"]) -> int:
        """The number of trained tokens, or of rows that have one."""
        return int((self.tokens.sum() if over == "tokens" else (self.tokens > 0).sum()).item())

    def narrow(self, mask: Tensor, *, reference_logp: Tensor | None = None) -> Rows:
        """The same rows with fewer trained tokens.

        Args:
            mask: ``[B, S]`` bool, tokens that may stay.
            reference_logp: ``[B]``, summed over the tokens that stay; left out, the rows have none any more, as that of
                all tokens would be another number.
        """
        return replace(self, trained=self.trained & mask, reference_logp=reference_logp)


class _TokenValues(torch.autograd.Function):
    """See `Rows.token_values`. Kept for the gradient are the logits as they came, and nothing else."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, gold: Tensor, trained: Tensor, function: TokenFunction, *beside: Tensor
    ) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(logits, gold, trained, *beside)
        with torch.autocast(logits.device.type, enabled=False):
            values = [
                function(_wide(logits[here]), gold[here], *(_wide(other[here]) for other in beside))
                for here in _chunks(trained, logits.shape[-1])
            ]
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        logits, gold, trained, *beside = ctx.saved_tensors
        gradient, start = torch.zeros_like(logits), 0
        for here in _chunks(trained, logits.shape[-1]):
            part = _wide(logits[here]).requires_grad_()
            with torch.enable_grad(), torch.autocast(logits.device.type, enabled=False):
                values = ctx.function(part, gold[here], *(_wide(other[here]) for other in beside))
                (of_part,) = torch.autograd.grad(values, part, slope[start : start + len(values)])
            gradient[here] = of_part.to(gradient.dtype)
            start += len(values)
        return (gradient, *(None,) * (3 + len(beside)))


def _chunks(trained: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Places of trained tokens, row by row, as many at a time as ``CHUNK`` allows; once also where there are none."""
    row, position = trained.nonzero(as_tuple=True)
    size = max(1, CHUNK // max(1, width))
    yield from zip(torch.split(row, size), torch.split(position, size), strict=True)


def log_probability(logits: Tensor, gold: Tensor) -> Tensor:
    """``[c]``, nats: ``log p(gold)`` from logits ``[c, V]``.

    >>> import torch
    >>> log_probability(torch.zeros(1, 4), torch.tensor([2])).exp().item()
    0.25
    """
    return logits.gather(1, gold[:, None])[:, 0] - logits.logsumexp(1)


def _wide(values: Tensor) -> Tensor:
    return values if not values.is_floating_point() else values.to(torch.promote_types(values.dtype, torch.float32))


def _shape(values: Tensor | None) -> tuple[int, ...]:
    return () if values is None else tuple(values.shape)
