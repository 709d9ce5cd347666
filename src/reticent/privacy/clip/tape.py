# SPDX-License-Identifier: Apache-2.0
"""The book that the layers of a model write into during one forward and backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from reticent.core.errors import BadInput
from reticent.privacy.clip.contribution import (
    Contribution,
    DenseGradient,
    Length,
    Outer,
    RowGradients,
    add_clipped,
    clipped_sum,
    length,
    length_of_outer,
    pairs,
    smaller_written_out,
    squares,
    upper,
    without,
    write_out,
)


class Tape:
    """Contributions of one micro-batch, by parameter.

    Args:
        rows: B, rows of the micro-batch.
        rows_per_unit: adjacent rows that make a unit; U = rows / rows_per_unit.
        dtype: what linear layers compute in; None leaves activations and weights as they are.
    """

    def __init__(self, *, rows: int, rows_per_unit: int, dtype: torch.dtype | None) -> None:
        self.rows, self.rows_per_unit, self.dtype = rows, rows_per_unit, dtype
        self.contributions: dict[nn.Parameter, list[Contribution]] = {}
        self.own: dict[nn.Parameter, list[Length]] = {}
        self._cast: dict[int, tuple[torch.Tensor, int, torch.Tensor]] = {}
        self._last: tuple[torch.Tensor, int, torch.Tensor] | None = None
        self._gram: tuple[torch.Tensor, list[torch.Tensor]] | None = None

    # ---- forward ---------------------------------------------------------------------------------------------------

    def cast(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` in the dtype that linear layers compute in; layers that read the same tensor share the copy."""
        if self.dtype is None or x.dtype == self.dtype or not x.is_floating_point():
            return x
        if self._last is not None:
            source, version, copy = self._last
            if _same(source, x) and version == x._version:
                return copy
        # Detached, as all that is kept here: a tensor that knows its graph keeps the graph, which keeps this tape.
        x = x.detach()
        self._last = (x, x._version, x.to(self.dtype))
        return self._last[2]

    def cast_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """A parameter in that dtype, made once a pass."""
        if self.dtype is None or weight.dtype == self.dtype:
            return weight
        cached = self._cast.get(id(weight))
        if cached is None:
            cached = self._cast[id(weight)] = (weight, weight._version, weight.detach().to(self.dtype))
        return cached[2]

    # ---- backward --------------------------------------------------------------------------------------------------

    def outer(self, parameter: nn.Parameter, left: torch.Tensor, right: torch.Tensor) -> None:
        """The gradient is ``Σ_t left_t rightᵀ_t``; ``left [B, ..., d]``, ``right [B, ..., p]``."""
        contribution = Outer(left=self._by_unit(left), right=self._by_unit(right))
        if smaller_written_out(contribution):
            self._add(parameter, write_out(contribution))
        else:
            self._add(parameter, contribution, self._outer_length)

    def rows_of(self, parameter: nn.Parameter, index: torch.Tensor, value: torch.Tensor) -> None:
        """Row ``index_t`` of the gradient gets ``value_t``; ``index [B, ...]``, ``value [B, ..., D]``."""
        units = self.rows // self.rows_per_unit
        self._check(value)
        self._add(parameter, RowGradients(index=index.reshape(units, -1), value=self._by_unit(value)))

    def dense(self, parameter: nn.Parameter, gradient: torch.Tensor) -> None:
        """Each row's gradient itself, ``[B, *shape]``."""
        self._check(gradient)
        if self.rows_per_unit > 1:
            gradient = gradient.reshape(-1, self.rows_per_unit, *gradient.shape[1:]).sum(1)
        self._add(parameter, DenseGradient(gradient=gradient.float()))

    # ---- after it --------------------------------------------------------------------------------------------------

    def squares(self) -> dict[nn.Parameter, torch.Tensor]:
        """``[U]`` float32 by parameter: squared norms of the units' gradients."""
        return {p: squares(parts, [length.square for length in self.own[p]]) for p, parts in self.contributions.items()}

    def uppers(self, squares: Mapping[nn.Parameter, torch.Tensor]) -> dict[nn.Parameter, torch.Tensor]:
        """``[U]`` float32 by parameter: what the units' gradients may measure at most, given their ``squares()``."""
        return {p: upper(square, self.own[p]) for p, square in squares.items()}

    def forget(self, gone: torch.Tensor) -> None:
        """Let go of what the units that are ``gone`` (``[U]`` bool) have contributed, finite or not."""
        self.contributions = {
            p: [without(contribution, gone) for contribution in parts] for p, parts in self.contributions.items()
        }

    def add_clipped(self, totals: dict[nn.Parameter, torch.Tensor], factors: dict[nn.Parameter, torch.Tensor]) -> None:
        """Add the clipped sums to ``totals``, making what is missing there, and let go of the contributions."""
        while self.contributions:
            parameter, parts = self.contributions.popitem()
            if parameter not in totals:
                totals[parameter] = clipped_sum(parameter, parts.pop(), factors[parameter])
            while parts:
                add_clipped(totals[parameter], parts.pop(), factors[parameter])

    def clipped(self, parameter: nn.Parameter, factor: torch.Tensor) -> torch.Tensor:
        """The clipped sum of one parameter, whose contributions are let go of."""
        parts = self.contributions.pop(parameter)
        total = clipped_sum(parameter, parts.pop(), factor)
        while parts:
            add_clipped(total, parts.pop(), factor)
        return total

    def _add(
        self,
        parameter: nn.Parameter,
        contribution: Contribution,
        length: Callable[[Contribution], Length] = length,
    ) -> None:
        self.contributions.setdefault(parameter, []).append(contribution)
        self.own.setdefault(parameter, []).append(length(contribution))

    def _outer_length(self, outer: Contribution) -> Length:
        """The products of an input that several layers read are taken once."""
        assert isinstance(outer, Outer)
        if self._gram is None or not _same(self._gram[0], outer.right):
            self._gram = (outer.right, pairs(outer.right))
        return length_of_outer(outer, self._gram[1])

    def _by_unit(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, ..., D]`` as ``[U, tokens, D]``."""
        self._check(x)
        return x.detach().reshape(self.rows // self.rows_per_unit, -1, x.shape[-1])

    def _check(self, x: torch.Tensor) -> None:
        if x.shape[0] != self.rows:
            raise BadInput(
                f"a trained layer that reads {x.shape[0]} rows of a batch of {self.rows}",
                "flattens or mixes records (experts of a mixture do), so what belongs to whom is lost",
                "Freeze such layers, for example by LoRA on the attention alone (target_modules), or take the exact "
                'loop (PrivateSpeed(impl="reference"), or "auto").',
            )


def _same(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """True if two living tensors are one in memory."""
    return (tensor.data_ptr(), tensor.shape, tensor.stride()) == (other.data_ptr(), other.shape, other.stride())
