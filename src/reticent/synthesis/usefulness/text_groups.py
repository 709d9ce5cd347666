# SPDX-License-Identifier: Apache-2.0
"""Groups of texts that are near to each other: k-means on embeddings of length 1, seeded, the same bytes each time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROUNDS = 25
MOST_GROUPS, TEXTS_A_GROUP = 50, 20
"""The groups are few for their texts, so that a histogram of them is known well."""


def groups_for(texts: int) -> int:
    """How many groups so many texts of the smaller side are put into.

    >>> groups_for(30), groups_for(400), groups_for(10_000)
    (2, 20, 50)
    """
    return max(2, min(MOST_GROUPS, texts // TEXTS_A_GROUP))


def grouped(points: Floats, *, groups: int, seed: int = 0) -> Ints:
    """``[N]``: the group of each point, from 0. Means of k-means++, then Lloyd's rounds until nothing moves.

    Args:
        points: ``[N, D]``; lengths do not count, directions do.
        groups: most groups; fewer where points are the same.
        seed: of the first means.
    """
    length = np.linalg.norm(points, axis=1, keepdims=True)
    unit = points / np.where(length > 0, length, 1.0)
    means = _first_means(unit, min(groups, len(unit)), np.random.default_rng(seed))
    nearest = _nearest(unit, means)
    for _ in range(ROUNDS):
        sums = np.zeros_like(means)
        np.add.at(sums, nearest, unit)
        count = np.bincount(nearest, minlength=len(means))[:, None]
        means = np.where(count > 0, sums / np.maximum(count, 1), means)
        again = _nearest(unit, means)
        if (again == nearest).all():
            break
        nearest = again
    return nearest


def _first_means(unit: Floats, groups: int, rng: np.random.Generator) -> Floats:
    chosen = [int(rng.integers(len(unit)))]
    left = ((unit - unit[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < groups and left.sum() > 0:
        chosen.append(int(rng.choice(len(unit), p=left / left.sum())))
        left = np.minimum(left, ((unit - unit[chosen[-1]]) ** 2).sum(axis=1))
    means: Floats = unit[chosen]
    return means


def _nearest(unit: Floats, means: Floats) -> Ints:
    far = (means**2).sum(axis=1)[None, :] - 2 * unit @ means.T
    return far.argmin(axis=1).astype(np.int64)
