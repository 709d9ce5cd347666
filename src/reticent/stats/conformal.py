# SPDX-License-Identifier: Apache-2.0
"""Conformal p-values: ranks of scores among scores of the null, without any assumption about their distribution.

Direction: higher scores are worse, p-values are small for high scores. For a null that was drawn independently of the
units see `reticent.stats.hypothesis.p_values`; here each unit has a null score of its own, which shares noise with it.

Sources: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); Bates, Candès, Lei, Romano and
Sesia, "Testing for outliers with conformal p-values", Annals of Statistics 51 (2023), doi:10.1214/22-AOS2244.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.errors import Underpowered
from reticent.core.validate import same_length
from reticent.stats.scores import Floats, as_scores


def paired_p_values(scores: ArrayLike, null: ArrayLike, cluster: ArrayLike | None = None) -> Floats:
    """``[N]`` share of the *other* units' null scores that reach a unit's score, with the unit itself counted in.

    A unit's own null score shares noise with its score, so it is left out, with those of its cluster: the others are
    independent of the unit, and the p-value is valid where unit and null score could be exchanged. Never below
    ``1 / N``. p-values of several units share one null sample and depend on each other.

    Args:
        scores: ``[N]``, higher is worse.
        null: ``[N]``, of the same units in the same order.
        cluster: ``[N]`` user of each unit; None where units are independent.

    Raises:
        BadInput: NaN, no scores, or lengths that differ.
        Underpowered: a single unit or cluster, which has no other.

    Examples:
        >>> paired_p_values([3.0, 0.2, 0.1], [0.5, 0.0, 0.3])
        array([0.33333333, 1.        , 0.66666667])
    """
    x, y = as_scores(scores, name="scores"), as_scores(null, name="null")
    same_length(scores=x, null=y)
    owner = np.arange(len(x)) if cluster is None else np.unique(np.asarray(cluster).astype(str), return_inverse=True)[1]
    same_length(scores=x, cluster=owner)
    if owner.max() == 0:
        raise Underpowered(
            f"{len(x)} units of one cluster", "have no others whose null scores they could be compared with", "Give 20."
        )
    reached = len(y) - np.searchsorted(np.sort(y), x, side="left")
    beside, size = _in_cluster(x, y, owner)
    return np.asarray((1.0 + reached - beside) / (1.0 + len(y) - size), dtype=np.float64)


def _in_cluster(x: Floats, y: Floats, owner: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """How many of a unit's own cluster have a null score that reaches its score, and how many there are."""
    n, counts = len(x), np.bincount(owner)
    # Scores before null scores of the same value, so that what stands before a score lies strictly below it.
    order = np.lexsort((np.repeat([0, 1], n), np.concatenate([x, y]), np.concatenate([owner, owner])))
    passed = np.cumsum(order >= n)
    place = np.empty(2 * n, dtype=np.intp)
    place[order] = np.arange(2 * n)
    below = passed[place[:n]] - np.concatenate([[0], np.cumsum(counts)[:-1]])[owner]
    size = counts[owner].astype(np.float64)
    return np.asarray(size - below), size


def aligned(null: ArrayLike, scores: ArrayLike) -> Floats:
    """``[M]`` the null moved and widened to the bulk of the scores, never to its advantage.

    Where most scores lie a little above the null for a harmless reason that all of them share, such as that altered
    text is less natural than text, the null as it is would take all of them for outliers. Its median is moved up to
    theirs, and its spread widened to that of their lower half, which a few outliers above do not touch. p-values only
    grow by it. What lifts more than half of all scores is taken for the bulk and not seen.

    Args:
        null: ``[M]``, higher is worse.
        scores: ``[N]``.

    Examples:
        >>> aligned([-1.0, 0.0, 1.0], [1.0, 2.0, 3.0]).tolist()
        [1.0, 2.0, 3.0]
        >>> aligned([-1.0, 0.0, 1.0], [-5.0, -4.5, -4.0]).tolist()
        [-1.0, 0.0, 1.0]
    """
    y, x = as_scores(null, name="null"), as_scores(scores, name="scores")
    middle, of_scores = float(np.median(y)), float(np.median(x))
    spread, wanted = middle - float(np.quantile(y, 0.25)), of_scores - float(np.quantile(x, 0.25))
    scale = max(1.0, wanted / spread) if spread > 0 else 1.0
    return np.asarray(middle + max(0.0, of_scores - middle) + scale * (y - middle), dtype=np.float64)
