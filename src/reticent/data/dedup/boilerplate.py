# SPDX-License-Identifier: Apache-2.0
"""Grams that very many texts hold, such as those of a disclaimer: pairs of texts that share them are not listed.

A gram in a share of all texts makes a share of all *pairs*, so listing the pairs that share one grows with the square
of the texts. But texts that hold the same of these grams are alike in this respect: they form a group, and two groups
share a fixed number of them. What follows from that number alone is settled by the sizes of a group's texts; all other
pairs share a rarer gram too, and are found by it. Nothing is left out, and nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Indices = npt.NDArray[np.int64]
Rule = Callable[[Indices, Indices, Indices], npt.NDArray[np.bool_]]

MATCHES_A_TEXT = 256
"""Matches of one gram in two texts that are listed, for each text. More, and the commonest grams are grouped."""
MOST_GROUP_PAIRS = 4_000_000
_CELLS = 2**22


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedTexts:
    """Texts of both sides by the common grams that they hold.

    Args:
        common: ``[columns]`` bool, the grams that are grouped.
        left, right: ``[N]``, ``[M]`` the group of each text.
        shared: ``[groups of left, groups of right]`` how many of the common grams two groups share.
    """

    common: npt.NDArray[np.bool_]
    left: Indices
    right: Indices
    shared: npt.NDArray[np.int32]

    def of_pairs(self, left: Indices, right: Indices) -> Indices:
        """``[P]`` common grams that texts ``left[p]`` and ``right[p]`` share."""
        return self.shared[self.left[left], self.right[right]].astype(np.int64)

    def alike(self, n_left: Indices, n_right: Indices, rule: Rule, *, least: int) -> npt.NDArray[np.bool_]:
        """``[N]``: texts of the left that are near-duplicates of one of the right by common grams alone.

        Of a group three sizes decide: a smaller text is more alike by Jaccard, the largest says whether one contains
        the left text, the smallest of at least ``least`` grams whether one is contained in it.

        Args:
            n_left, n_right: ``[N]``, ``[M]`` grams of each text.
            rule: of shared grams and the grams of two texts; true for more shared ones too.
            least: grams of a text that counts for being contained.
        """
        sizes = _sizes(self.right, n_right, self.shared.shape[1], least)
        kinds, kind = np.unique(np.stack([self.left, n_left]), axis=1, return_inverse=True)
        near = np.zeros(kinds.shape[1], dtype=bool)
        step = max(1, _CELLS // self.shared.shape[1])
        for start in range(0, len(near), step):
            group, n = kinds[:, start : start + step]
            shared = self.shared[group].astype(np.int64)
            for size in sizes:
                near[start : start + step] |= rule(shared, n[:, None], size[None, :]).any(axis=1)
        return np.asarray(near[kind.ravel()])


def grouped(
    left: csr_array, right: csr_array, *, matches_a_text: int | None = None, most_pairs: int | None = None
) -> GroupedTexts | None:
    """The groups, or None where no gram is common enough to be a burden.

    Args:
        left, right: ``[N, columns]``, ``[M, columns]`` of ones.
        matches_a_text: that are listed; ``MATCHES_A_TEXT`` where it is None.
        most_pairs: groups of the left times groups of the right; ``MOST_GROUP_PAIRS`` where it is None.
    """
    matches_a_text = MATCHES_A_TEXT if matches_a_text is None else matches_a_text
    most_pairs = MOST_GROUP_PAIRS if most_pairs is None else most_pairs
    burden = left.sum(axis=0).astype(np.float64) * right.sum(axis=0)
    order = np.argsort(-burden, kind="stable")
    listed = burden.sum() - np.cumsum(burden[order])
    allowed = matches_a_text * (left.shape[0] + right.shape[0])
    count = int(np.searchsorted(-listed, -allowed)) + 1 if burden.sum() > allowed else 0
    while count:
        common = np.zeros(left.shape[1], dtype=bool)
        common[order[:count]] = True
        groups = _groups(common, left, right, most_pairs)
        if groups is not None:
            return groups
        count //= 2  # quoted in too many ways: fewer grams, fewer groups
    return None


def _groups(common: npt.NDArray[np.bool_], left: csr_array, right: csr_array, most_pairs: int) -> GroupedTexts | None:
    left, right = left[:, common], right[:, common]
    name = np.random.default_rng(0).integers(1, 2**63, size=int(common.sum()), dtype=np.uint64)
    sides = []
    for side in (left, right):
        _, first, group = np.unique(side.astype(np.uint64) @ name, return_index=True, return_inverse=True)
        sides.append((side[first], group.astype(np.int64)))
    (of_left, left_group), (of_right, right_group) = sides
    if of_left.shape[0] * of_right.shape[0] > most_pairs:
        return None
    shared = (of_left @ of_right.T).toarray().astype(np.int32)
    return GroupedTexts(common=common, left=left_group, right=right_group, shared=shared)


def _sizes(group: Indices, n: Indices, groups: int, least: int) -> list[Indices]:
    """``[groups]`` each: the smallest and the largest text of a group, and the smallest of at least ``least``."""
    smallest = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(smallest, group, n)
    largest = np.zeros(groups, dtype=np.int64)
    np.maximum.at(largest, group, n)
    counted = largest.copy()
    enough = n >= least
    np.minimum.at(counted, group[enough], n[enough])
    return [smallest, largest, counted]
