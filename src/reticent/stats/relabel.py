# SPDX-License-Identifier: Apache-2.0
"""Coins thrown again: the labellings of the units that were as likely as the one that came up.

Whatever the scores are and however alike they are, if the coin changed nothing they would be the same under another
throw. So the statistic of the real labels is one draw among those of labellings that the same coins could have given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import lgamma, log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.errors import BadInput
from reticent.core.validate import same_length

CELLS = 1 << 22
"""Labels that are drawn at a time, so that memory does not grow with the number of draws."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """The relabelling of ``U`` units: which of them may trade labels.

    Args:
        block: ``[U]`` number of the block, from 0: units of a block always have one label (a user's records, where
            coins went by user). One number a unit where each had a coin of its own.
        stratum: ``[U]``: labels are traded within a stratum only, as many of each as there are. One number for all
            where one coin was thrown like the other.

    Raises:
        BadInput: lengths that differ, or a block in two strata.
    """

    block: NDArray[np.intp]
    stratum: NDArray[np.intp]

    def __post_init__(self) -> None:
        same_length(block=self.block, stratum=self.stratum)
        if not np.array_equal(self.stratum_of_block[self.block], self.stratum):
            raise BadInput("a block in two strata", "has no place to trade labels in", "Give each block one stratum.")

    @property
    def blocks(self) -> int:
        return len(self.stratum_of_block)

    @cached_property
    def stratum_of_block(self) -> NDArray[np.intp]:
        """``[B]``."""
        strata = np.zeros(int(self.block.max(initial=-1)) + 1, dtype=np.intp)
        strata[self.block] = self.stratum
        return strata

    def sums(self, values: ArrayLike) -> NDArray[np.float64]:
        """``[B, ...]``: ``values [U, ...]`` added up over each block."""
        x = np.asarray(values, dtype=np.float64)
        if self.blocks == len(x) and np.array_equal(self.block, np.arange(len(x))):
            return x
        totals = np.zeros((self.blocks, *x.shape[1:]))
        np.add.at(totals, self.block, x)
        return totals


def free(units: int) -> Design:
    """One coin a unit, all alike."""
    return Design(block=np.arange(units), stratum=np.zeros(units, dtype=np.intp))


def within(owner: ArrayLike) -> Design:
    """One coin a unit; labels are traded among the units of one owner only."""
    names = np.unique(np.asarray(owner).astype(str), return_inverse=True)[1]
    return Design(block=np.arange(len(names)), stratum=names)


def whole(owner: ArrayLike, member: NDArray[np.bool_]) -> Design:
    """Owners whose units are all on one side trade their labels as a whole; within each other owner units do.

    >>> design = whole(["a", "a", "b", "c", "c"], np.array([True, True, False, True, False]))
    >>> design.block, design.stratum
    (array([0, 0, 1, 2, 3]), array([0, 0, 0, 3, 3]))
    """
    names = np.unique(np.asarray(owner).astype(str), return_inverse=True)[1]
    same_length(owner=names, member=member)
    inside = np.bincount(names, weights=member) / np.bincount(names)
    mixed = ((inside > 0) & (inside < 1))[names]
    label = np.where(mixed, names.max(initial=0) + 1 + np.arange(len(names)), names)
    block = np.unique(label, return_inverse=True)[1]
    return Design(block=block, stratum=np.where(mixed, names + 1, 0))


def log_labellings(member: NDArray[np.bool_], design: Design) -> float:
    """Natural logarithm of how many labellings there are: no p-value can be below one over that number."""
    total = 0.0
    label = _of_blocks(member, design)
    for stratum in np.unique(design.stratum_of_block):
        of = label[design.stratum_of_block == stratum]
        n, m = len(of), int(of.sum())
        total += lgamma(n + 1) - lgamma(m + 1) - lgamma(n - m + 1)
    return max(total, 0.0)


def relabelled(member: NDArray[np.bool_], design: Design, *, draws: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Labels of the blocks, ``[B, D]`` of 0 and 1 at a time: the real ones first, ``1 + draws`` columns in all.

    Args:
        member: ``[U]`` bool; units of a block agree.
        design: who trades with whom.
        draws: labellings drawn besides the real one, uniformly.
        seed: of the draws.

    Raises:
        BadInput: a block with both labels.
    """
    real = _of_blocks(member, design)
    yield real.astype(np.float32)[:, None]
    patterns = _patterns(real, design)
    rng = np.random.default_rng(seed)
    step = max(1, CELLS // max(1, design.blocks))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        labels = np.zeros((design.blocks, count), dtype=np.float32)
        for rows, chosen in patterns:
            labels[rows.ravel()] = _drawn(rows.shape, chosen, count, rng)
        yield labels


def _drawn(shape: tuple[int, ...], chosen: int, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """``[strata * size, count]``: in each of the strata ``chosen`` of the ``size`` blocks, anew for each column."""
    strata, size = shape
    if chosen in (0, size):
        return np.full((strata * size, count), float(chosen > 0), dtype=np.float32)
    keys = rng.random((count, strata, size), dtype=np.float32)
    first = np.argpartition(keys, chosen - 1, axis=2)[:, :, :chosen]
    labels = np.zeros((count, strata, size), dtype=np.float32)
    np.put_along_axis(labels, first, 1.0, axis=2)
    return labels.reshape(count, strata * size).T


def _of_blocks(member: NDArray[np.bool_], design: Design) -> NDArray[np.bool_]:
    same_length(member=member, block=design.block)
    label = np.zeros(design.blocks, dtype=bool)
    label[design.block] = member
    if not np.array_equal(label[design.block], member):
        raise BadInput("a block with both labels", "cannot trade its label as a whole", "Give its units own blocks.")
    return label


def _patterns(label: NDArray[np.bool_], design: Design) -> list[tuple[NDArray[np.intp], int]]:
    """Strata of one size and one number of members together: ``([strata, size]`` blocks, members)."""
    order = np.argsort(design.stratum_of_block, kind="stable")
    strata, first, size = np.unique(design.stratum_of_block[order], return_index=True, return_counts=True)
    inside = np.add.reduceat(label[order].astype(np.intp), first) if len(strata) else np.zeros(0, dtype=np.intp)
    patterns = []
    for blocks, members in sorted(set(zip(size.tolist(), inside.tolist(), strict=True))):
        starts = first[(size == blocks) & (inside == members)]
        patterns.append((order[starts[:, None] + np.arange(blocks)], members))
    return patterns


def smallest_p(member: NDArray[np.bool_], design: Design, *, draws: int) -> float:
    """The smallest p-value that ``draws`` labellings, or all that there are, can give."""
    return float(max(np.exp(-min(log_labellings(member, design), log(1e300))), 1 / (1 + draws)))
