# SPDX-License-Identifier: Apache-2.0
"""The three forms in which per-unit gradients come, and what can be had from them without writing them out.

For unit u, with t going through all tokens of its rows:

========  ===========================================  =====================
form      gradient of unit u                           from
========  ===========================================  =====================
Outer     ``Σ_t left_t rightᵀ_t``, ``[d, p]``          linear layers
Rows      ``Σ_t`` of ``value_t`` into row ``index_t``  embeddings
Dense     written out, ``[d, p]`` or any shape         all that is small
========  ===========================================  =====================

A parameter that is used more than once (an embedding tied to the output matrix, a shared layer) has several
contributions; the norm of their sum needs the inner products between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

_COPIED = 2**23
"""Numbers that are widened to float32 at once: 32 MiB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outer:
    """``left [U, T, d]`` and ``right [U, T, p]``."""

    left: torch.Tensor
    right: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """``index [U, T]`` int64 and ``value [U, T, D]``."""

    index: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense:
    """``gradient [U, *shape of the parameter]``."""

    gradient: torch.Tensor


Contribution = Outer | Rows | Dense


def squares(contributions: list[Contribution], own: list[torch.Tensor]) -> torch.Tensor:
    """``[U]`` float32: squared norm of the sum of contributions to one parameter, given each one's ``own``."""
    total = torch.stack(own).sum(0)
    for one, other in combinations(contributions, 2):
        total = total + 2 * inner(one, other)
    return total.clamp(min=0)


def inner(one: Contribution, other: Contribution) -> torch.Tensor:
    """``[U]`` float32: inner product of two contributions to the same parameter, unit by unit."""
    return _INNER[type(one), type(other)](one, other)


def write_out(outer: Outer) -> Dense:
    """The same gradients, written out."""
    return Dense(gradient=torch.bmm(outer.left.transpose(1, 2), outer.right))


def smaller_written_out(outer: Outer) -> bool:
    """Whether gradients that are written out are at most twice as large as what they follow from.

    Written out, they cost what the ordinary weight gradient costs, their norm is read off, and their clipped sum needs
    no second product; ``left`` and ``right`` need not be kept. Otherwise the products of all pairs of tokens, ``T²``
    of them, are the cheaper way to the norm.
    """
    (_, length, d), p = outer.left.shape, outer.right.shape[-1]
    return d * p <= 2 * length * (d + p)


def add_clipped(total: torch.Tensor, one: Contribution, factor: torch.Tensor) -> None:
    """Add ``Σ_u factor_u · gradient_u`` to ``total`` (float32), in place.

    Args:
        factor: ``[U]`` float32.
    """
    match one:
        case Outer():
            left, right = _scaled(one, factor)
            total += left.flatten(0, 1).t() @ right.flatten(0, 1)
        case Rows():
            value = one.value.float() * factor[:, None, None]
            total.index_add_(0, one.index.flatten(), value.flatten(0, 1))
        case Dense():
            for units, wide in _widened(one.gradient):
                total.view(-1).addmv_(wide.flatten(1).t(), factor[units])


def _scaled(one: Outer, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides, the narrower one times ``factor``."""
    by = factor[:, None, None]
    if one.left.shape[-1] < one.right.shape[-1]:
        return (one.left * by.to(one.left.dtype)), one.right
    return one.left, one.right * by.to(one.right.dtype)


def square(one: Contribution) -> torch.Tensor:
    """``[U]`` float32: squared norm of one contribution."""
    if not isinstance(one, Dense):
        return inner(one, one)
    # Row by row: a float32 norm over tens of millions of numbers is off in the third digit on CPUs.
    rows = [torch.linalg.vector_norm(wide, dim=-1).square().flatten(1).sum(1) for _, wide in _widened(one.gradient)]
    return torch.cat(rows)


def _widened(gradient: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Units and their gradients in float32, ``[u, d, p]``, so few at a time that the copies stay small."""
    if gradient.dim() == 2:
        gradient = gradient[:, None]
    few = max(1, _COPIED // max(1, gradient.shape[1:].numel()))
    step = max(1, len(gradient)) if gradient.dtype == torch.float32 else few
    for start in range(0, max(1, len(gradient)), step):
        units = slice(start, start + step)
        yield units, gradient[units].float()


def _sum(product: torch.Tensor) -> torch.Tensor:
    return product.flatten(1).sum(1, dtype=torch.float32)


def _outer_outer(one: Outer, other: Outer) -> torch.Tensor:
    left = torch.bmm(one.left, other.left.transpose(1, 2))
    right = torch.bmm(one.right, other.right.transpose(1, 2))
    return _sum(left.float() * right.float())


def _outer_rows(one: Outer, other: Rows) -> torch.Tensor:
    # Σ_s Σ_t left_s[index_t] (right_s · value_t): a gather instead of a [V, D] gradient.
    index = other.index[:, None, :].expand(-1, one.left.shape[1], -1)
    picked = one.left.gather(2, index).float()
    return _sum(picked * torch.bmm(one.right.float(), other.value.float().transpose(1, 2)))


def _outer_dense(one: Outer, other: Dense) -> torch.Tensor:
    gradient = other.gradient.to(one.left.dtype)
    return _sum(torch.bmm(one.left, gradient).float() * one.right.float())


def _rows_rows(one: Rows, other: Rows) -> torch.Tensor:
    same = one.index[:, :, None] == other.index[:, None, :]
    return _sum(torch.bmm(one.value.float(), other.value.float().transpose(1, 2)) * same)


def _rows_dense(one: Rows, other: Dense) -> torch.Tensor:
    index = one.index[:, :, None].expand(-1, -1, other.gradient.shape[-1])
    return _sum(other.gradient.gather(1, index).float() * one.value.float())


def _dense_dense(one: Dense, other: Dense) -> torch.Tensor:
    return _sum(one.gradient.float() * other.gradient.float())


_INNER: dict[tuple[type, type], Any] = {
    (Outer, Outer): _outer_outer,
    (Outer, Rows): _outer_rows,
    (Rows, Outer): lambda one, other: _outer_rows(other, one),
    (Outer, Dense): _outer_dense,
    (Dense, Outer): lambda one, other: _outer_dense(other, one),
    (Rows, Rows): _rows_rows,
    (Rows, Dense): _rows_dense,
    (Dense, Rows): lambda one, other: _rows_dense(other, one),
    (Dense, Dense): _dense_dense,
}
