# SPDX-License-Identifier: Apache-2.0
"""The first earlier text that is alike by common grams alone, for each text of one set, without listing pairs.

Texts that hold the same common grams form a group (see `boilerplate`), so of a text and a group the shared grams are
one number, and which of the group's texts are alike follows from their sizes. Within the texts of fewer grams than
count for being contained, and within the others, those that are alike are the smallest ones: a table of the first place
up to each size answers for all of them at once.

Records may have to be alike in two respects, as a whole and in what is trained on. Then groups are those of both, and a
table has two sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from reticent.data.dedup import boilerplate
from reticent.data.dedup.boilerplate import GroupedTexts, Indices, Rule, grouped


def groups_of(respects: Sequence[csr_array]) -> list[GroupedTexts | None]:
    """The groups of one set of texts in each respect; None where no gram is common enough to be a burden.

    Args:
        respects: ``[N, columns]`` of ones each, of the same texts.
    """
    most = boilerplate.MOST_GROUP_PAIRS
    while True:
        groups = [grouped(of_texts, of_texts, most_pairs=most) for of_texts in respects]
        both = [group.left for group in groups if group is not None]
        if len(both) < len(groups) or _kinds(both)[0].shape[1] ** 2 <= boilerplate.MOST_GROUP_PAIRS:
            return groups
        most //= 4  # few in each respect, many together


def earliest(
    respects: Sequence[csr_array], groups: Sequence[GroupedTexts], rule: Rule, *, least: int
) -> npt.NDArray[np.int64]:
    """``[N]``: the place of the first earlier text that is alike in all respects by common grams alone; N for none.

    Args:
        respects: ``[N, columns]`` of ones each, of the same texts.
        groups: of the texts, in each respect.
        rule: of shared grams and the grams of two texts; true for more shared ones too, and of texts with fewer than
            ``least`` grams, as of the others, true for smaller ones too.
        least: grams of a text that counts for being contained.
    """
    n = respects[0].shape[0]
    sizes = [of_texts.sum(axis=1).astype(np.int64) for of_texts in respects]
    kinds, first, kind = _kinds([*(group.left for group in groups), *sizes])
    of_kind, size_of_kind = kinds[: len(groups)], kinds[len(groups) :]
    joint, _, member = _kinds(list(of_kind))
    order = np.argsort(member, kind="stable")
    borders = np.cumsum(np.bincount(member))[:-1]
    earliest_place = np.full(kinds.shape[1], n, dtype=np.int64)
    for held, theirs in zip(joint.T, np.split(order, borders), strict=True):
        shared = np.stack([group.shared[of, at] for group, of, at in zip(groups, of_kind, held, strict=True)])
        asking = np.flatnonzero((shared > 0).all(axis=0))
        table = _Tables(size_of_kind[:, theirs], first[theirs], least=least, none=n)
        earliest_place[asking] = np.minimum(
            earliest_place[asking], table.first(shared[:, asking].astype(np.int64), size_of_kind[:, asking], rule)
        )
    earlier = earliest_place[kind]
    return np.where(earlier < np.arange(n), earlier, n)


def _kinds(columns: Sequence[Indices]) -> tuple[Indices, Indices, Indices]:
    """``[columns, K]`` the distinct rows, ``[K]`` where each stands first, and ``[N]`` which one each row is."""
    kinds, first, kind = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
    return kinds, first, kind.ravel()


class _Tables:
    """The first places of a group's texts up to each size, apart for texts below and from ``least`` on.

    Args:
        sizes: ``[respects, T]`` grams of each text.
        place: ``[T]`` of each text.
        least: grams of a text that counts for being contained.
        none: stands for no place.
    """

    def __init__(self, sizes: Indices, place: Indices, *, least: int, none: int) -> None:
        self.none = none
        self.tables: list[tuple[list[Indices], Indices]] = []
        for large in product((False, True), repeat=len(sizes)):
            rows = ((sizes >= least) == np.array(large)[:, None]).all(axis=0)
            if rows.any():
                self.tables.append(self._table(sizes[:, rows], place[rows]))

    def _table(self, sizes: Indices, place: Indices) -> tuple[list[Indices], Indices]:
        """The distinct sizes in each respect, and the first place of texts of at most these, with zero in front."""
        distinct, at = zip(*(np.unique(of_texts, return_inverse=True) for of_texts in sizes), strict=True)
        table = np.full([len(of_texts) + 1 for of_texts in distinct], self.none, dtype=np.int64)
        np.minimum.at(table, tuple(row + 1 for row in at), place)
        for axis in range(table.ndim):
            np.minimum.accumulate(table, axis=axis, out=table)
        return list(distinct), table

    def first(self, shared: Indices, n: Indices, rule: Rule) -> Indices:
        """``[Q]``: the first place of a text that is alike in all respects.

        Args:
            shared: ``[respects, Q]`` grams that each asking text shares with all of the group.
            n: ``[respects, Q]`` its grams.
            rule: of shared grams and the grams of two texts.
        """
        earliest_place = np.full(shared.shape[1], self.none, dtype=np.int64)
        for distinct, table in self.tables:
            alike = np.ones(len(earliest_place), dtype=bool)
            for common, n_own, sizes in zip(shared, n, distinct, strict=True):
                alike &= rule(common, n_own, sizes[:1])
            rows = np.flatnonzero(alike)
            upto = [
                _how_many(common[rows], n_own[rows], sizes, rule)
                for common, n_own, sizes in zip(shared, n, distinct, strict=True)
            ]
            earliest_place[rows] = np.minimum(earliest_place[rows], table[tuple(upto)])
        return earliest_place


def _how_many(shared: Indices, n: Indices, sizes: Indices, rule: Rule) -> Indices:
    """``[Q]``: how many of the rising ``sizes`` are alike; the smallest is. By halving."""
    low, high = np.ones(len(shared), dtype=np.int64), np.full(len(shared), len(sizes), dtype=np.int64)
    for _ in range(len(sizes).bit_length()):
        middle = (low + high) // 2
        more = rule(shared, n, sizes[np.minimum(middle, len(sizes) - 1)]) & (middle < high)
        low, high = np.where(more, middle + 1, low), np.where(more, high, middle)
    return low
