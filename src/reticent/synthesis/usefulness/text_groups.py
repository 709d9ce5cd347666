# SPDX-License-Identifier: Apache-2.0
"""Groups of texts that are near to each other: k-means on embeddings of length 1, seeded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_GROUPS, TEXTS_A_GROUP = 50, 20
"""The groups are few for their texts, so that a histogram of them is known well."""


def groups_for(texts: int) -> int:
    """How many groups so many texts of the smaller side are put into.

    >>> groups_for(30), groups_for(400), groups_for(10_000)
    (2, 20, 50)
    """
    return max(2, min(MOST_GROUPS, texts // TEXTS_A_GROUP))


def grouped(points: Floats, *, groups: int, seed: int = 0) -> Ints:
    """``[N]``: the group of each point, from 0 (k-means, from one start).

    Args:
        points: ``[N, D]``; lengths do not count, directions do.
        groups: most groups; fewer where points are the same.
        seed: of the first means.
    """
    from sklearn.cluster import KMeans

    length = np.linalg.norm(points, axis=1, keepdims=True)
    unit = points / np.where(length > 0, length, 1.0)
    apart = len(np.unique(unit, axis=0))
    return KMeans(min(groups, apart), n_init=1, random_state=seed).fit_predict(unit).astype(np.int64)
