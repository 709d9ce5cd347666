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

**Rounding.** A unit must not add more than its norm says, whatever its text. Tokens of a unit can nearly cancel (a text
that repeats itself), so an error that is small beside each product of tokens need not be small beside their sum. Hence:

- products of tokens, from which norms follow, are taken and summed in float32. Their error is small beside
  ``size² = (Σ_t ‖left_t‖ ‖right_t‖)²``, and ``PAIRS`` of that is added to the squared norm before clipping;
- a sum over several units is taken in float32, as the rounding of a sum of many units would be more than one unit may
  add. In lower precision each unit is multiplied out alone and comes out rounded by ``OWN`` of itself, which clipping
  allows for; its factor is applied afterwards, in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

OWN = 2.0**-8
"""Twice the most that rounding to bfloat16 adds to the length of a gradient (2^-9)."""
PAIRS = 2.0**-22
"""Bound on the error of summing over pairs of tokens in float32, over ``size²``: several times what the search of
``benchmarks/clip_worst.py`` finds."""
_COPIED = 2**23
"""Numbers that are widened to float32 at once: 32 MiB."""
_WIDTH = 2**12
"""Columns that are widened to float32 at once where tokens are multiplied."""
_STRIPE, _STRIPES = 32, 4
"""Tokens in a stripe at least, and stripes of a unit at most: thinner ones multiply slower than they save."""
_BLOCK = 2**20
"""Numbers of a sum that units are added to in turn: few enough to stay in cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outer:
    """``left [U, T, d]`` and ``right [U, T, p]``."""

    left: torch.Tensor
    right: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class RowGradients:
    """``index [U, T]`` int64 and ``value [U, T, D]``."""

    index: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseGradient:
    """``gradient [U, *shape of the parameter]``."""

    gradient: torch.Tensor


Contribution = Outer | RowGradients | DenseGradient


@dataclass(frozen=True, kw_only=True, eq=False)
class Length:
    """How long one contribution is, unit by unit.

    Args:
        square: ``[U]`` float32, its squared norm.
        size: ``[U]`` float32, the norm that it would have if all its tokens pulled the same way; at least the norm.
        rounding: what adding it up may add to its length, over its norm.
    """

    square: torch.Tensor
    size: torch.Tensor
    rounding: float = 0.0


def squares(contributions: list[Contribution], squared_sizes: list[torch.Tensor]) -> torch.Tensor:
    """``[U]`` float32: squared norm of the sum of contributions to a parameter, given ``squared_sizes`` of each."""
    total = torch.stack(squared_sizes).sum(0)
    for contribution, other in combinations(contributions, 2):
        total = total + 2 * inner(contribution, other)
    return total.clamp(min=0)


def upper(square: torch.Tensor, lengths: Sequence[Length]) -> torch.Tensor:
    """``[U]`` float32: what the length of one parameter's gradient is at most once it is added up.

    Args:
        square: ``squares`` of its contributions.
        lengths: of each of them.
    """
    size = torch.stack([part.size for part in lengths]).sum(0)
    rounded = [part.square.sqrt() * part.rounding for part in lengths if part.rounding]
    return torch.stack([(square + PAIRS * size.square()).sqrt(), *rounded]).sum(0)


def inner(contribution: Contribution, other: Contribution) -> torch.Tensor:
    """``[U]`` float32: inner product of two contributions to the same parameter, unit by unit."""
    return _INNER[type(contribution), type(other)](contribution, other)


def write_out(outer: Outer) -> DenseGradient:
    """The same gradients, written out."""
    return DenseGradient(gradient=torch.bmm(outer.left.transpose(1, 2), outer.right))


def smaller_written_out(outer: Outer) -> bool:
    """True if gradients that are written out are at most twice as large as what they follow from; three times where
    that is in lower precision, as products of tokens are in float32 all the same.

    Written out, they cost what the ordinary weight gradient costs, their norm is read off, and their clipped sum needs
    no second product; ``left`` and ``right`` need not be kept. Otherwise the products of all pairs of tokens, ``T²``
    of them, are the cheaper way to the norm.
    """
    (_, length, d), p = outer.left.shape, outer.right.shape[-1]
    return d * p <= (2 if outer.left.dtype == torch.float32 else 3) * length * (d + p)


def clipped_sum(like: torch.Tensor, contribution: Contribution, factor: torch.Tensor) -> torch.Tensor:
    """``Σ_u factor_u · gradient_u`` (float32) by itself, in the shape of the parameter ``like``."""
    if isinstance(contribution, Outer) and contribution.left.dtype == contribution.right.dtype == torch.float32:
        left, right = _scaled(contribution, factor)
        return left.flatten(0, 1).t() @ right.flatten(0, 1)  # a pass over all weights less than adding it to zeros
    total = torch.zeros_like(like, dtype=torch.float32)
    add_clipped(total, contribution, factor)
    return total


def add_clipped(total: torch.Tensor, contribution: Contribution, factor: torch.Tensor) -> None:
    """Add ``Σ_u factor_u · gradient_u`` to ``total`` (float32), in place.

    Args:
        factor: ``[U]`` float32.
    """
    match contribution:
        case Outer() if contribution.left.dtype == contribution.right.dtype == torch.float32:
            left, right = _scaled(contribution, factor)
            total.addmm_(left.flatten(0, 1).t(), right.flatten(0, 1))
        case Outer():
            _add_one_by_one(total, contribution, factor.tolist())
        case RowGradients():
            value = contribution.value.float() * factor[:, None, None]
            total.index_add_(0, contribution.index.flatten(), value.flatten(0, 1))
        case DenseGradient():
            for units, wide in _widened(contribution.gradient):
                total.view(-1).addmv_(wide.flatten(1).t(), factor[units])


def without(contribution: Contribution, gone: torch.Tensor) -> Contribution:
    """The contribution with zeros for the units that are ``gone`` (``[U]`` bool), whatever they held."""

    def emptied(x: torch.Tensor) -> torch.Tensor:
        return x.masked_fill(gone.view(-1, *[1] * (x.dim() - 1)), 0)

    match contribution:
        case Outer():
            return Outer(left=emptied(contribution.left), right=emptied(contribution.right))
        case RowGradients():
            return RowGradients(index=contribution.index, value=emptied(contribution.value))
        case DenseGradient():
            return DenseGradient(gradient=emptied(contribution.gradient))


def _scaled(outer: Outer, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides, the narrower one times ``factor``."""
    by = factor[:, None, None]
    return (
        (outer.left * by, outer.right)
        if outer.left.shape[-1] < outer.right.shape[-1]
        else (outer.left, outer.right * by)
    )


def _add_one_by_one(total: torch.Tensor, outer: Outer, factors: Sequence[float]) -> None:
    """Each unit is multiplied out alone, in its own precision, and added in float32; a block of rows after another."""
    rows = max(1, _BLOCK // total.shape[1])
    for start in range(0, len(total), rows):
        block = total[start : start + rows]
        for left, right, factor in zip(outer.left[..., start : start + rows], outer.right, factors, strict=True):
            block.add_(left.t() @ right, alpha=factor)


def length(contribution: Contribution) -> Length:
    """How long a contribution is."""
    match contribution:
        case Outer():
            return length_of_outer(contribution, pairs(contribution.right))
        case RowGradients():
            same = contribution.index[:, :, None] == contribution.index[:, None, :]
            products = tokens(contribution.value, contribution.value)
            return Length(square=_sum(products * same), size=_diagonal(products).sqrt().sum(1))
        case DenseGradient():
            # Row by row: a float32 norm over tens of millions of numbers is off in the third digit on CPUs.
            rows = [
                torch.linalg.vector_norm(x, dim=-1).square().flatten(1).sum(1)
                for _, x in _widened(contribution.gradient)
            ]
            square = torch.cat(rows)
            return Length(square=square, size=square.sqrt())


def length_of_outer(outer: Outer, right: Sequence[torch.Tensor]) -> Length:
    """How long ``outer`` is, given the ``pairs`` of its right side; they are taken once where layers share it."""
    left = pairs(outer.left)
    size = [(_diagonal(a) * _diagonal(b)).sqrt().sum(1) for a, b in zip(left, right, strict=True)]
    # Pairs of two different stripes stand for both orders.
    square = [2 * _sum(a.mul_(b)) - _sum(a[..., : a.shape[1]]) for a, b in zip(left, right, strict=True)]
    lower = torch.float32 not in (outer.left.dtype, outer.right.dtype)
    rounding = OWN if lower else 0.0
    return Length(square=torch.stack(square).sum(0), size=torch.stack(size).sum(0), rounding=rounding)


def pairs(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Inner products of each unit's tokens with each other, ``[U, s, T - start]`` float32: a stripe of ``s`` tokens
    with themselves and those after them, then the next. As the products are symmetric, three eighths are saved."""
    length = tensor.shape[1]
    stripe = max(_STRIPE, -(-length // _STRIPES))
    return [tokens(tensor[:, i : i + stripe], tensor[:, i:]) for i in range(0, max(1, length), stripe)]


def tokens(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``[U, S, T]`` float32: inner products of ``one [U, S, d]`` and ``other [U, T, d]``, token by token."""
    if tensor.is_cuda and tensor.dtype == other.dtype and tensor.dtype != torch.float32:
        return torch.bmm(tensor, other.transpose(1, 2), out_dtype=torch.float32)
    # In float32: the product of bfloat16 matrices that CPUs have rounds within a sum, as much as a text that nearly
    # cancels can make use of.
    parts = zip(torch.split(tensor, _WIDTH, dim=2), torch.split(other, _WIDTH, dim=2), strict=True)
    first, second = next(parts)
    products = torch.bmm(first.float(), second.float().transpose(1, 2))
    for first, second in parts:
        products.baddbmm_(first.float(), second.float().transpose(1, 2))
    return products


def _diagonal(products: torch.Tensor) -> torch.Tensor:
    return products.diagonal(dim1=1, dim2=2)


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


def _outer_outer(outer: Outer, other: Outer) -> torch.Tensor:
    return _sum(tokens(outer.left, other.left) * tokens(outer.right, other.right))


def _outer_rows(outer: Outer, other: RowGradients) -> torch.Tensor:
    # Σ_s Σ_t left_s[index_t] (right_s · value_t): a gather instead of a [V, D] gradient.
    index = other.index[:, None, :].expand(-1, outer.left.shape[1], -1)
    return _sum(outer.left.gather(2, index).float() * tokens(outer.right, other.value))


def _outer_dense(outer: Outer, other: DenseGradient) -> torch.Tensor:
    return _sum(torch.bmm(outer.left.float(), other.gradient.float()) * outer.right.float())


def _rows_rows(rows: RowGradients, other: RowGradients) -> torch.Tensor:
    same = rows.index[:, :, None] == other.index[:, None, :]
    return _sum(tokens(rows.value, other.value) * same)


def _rows_dense(rows: RowGradients, other: DenseGradient) -> torch.Tensor:
    index = rows.index[:, :, None].expand(-1, -1, other.gradient.shape[-1])
    return _sum(other.gradient.gather(1, index).float() * rows.value.float())


def _dense_dense(dense: DenseGradient, other: DenseGradient) -> torch.Tensor:
    return _sum(dense.gradient.float() * other.gradient.float())


_INNER: dict[tuple[type, type], Any] = {
    (Outer, Outer): _outer_outer,
    (Outer, RowGradients): _outer_rows,
    (RowGradients, Outer): lambda left, right: _outer_rows(right, left),
    (Outer, DenseGradient): _outer_dense,
    (DenseGradient, Outer): lambda left, right: _outer_dense(right, left),
    (RowGradients, RowGradients): _rows_rows,
    (RowGradients, DenseGradient): _rows_dense,
    (DenseGradient, RowGradients): lambda left, right: _rows_dense(right, left),
    (DenseGradient, DenseGradient): _dense_dense,
}
