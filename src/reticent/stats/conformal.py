# SPDX-License-Identifier: Apache-2.0
"""Conformal p-values: ranks of scores among scores of the null, without any assumption about their distribution.

Direction: higher scores are worse, p-values are small for high scores. For a null that was drawn independently of the
units see `reticent.stats.hypothesis.p_values`; here each unit has a null score of its own, which shares noise with it.

Sources: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); Bates, Candès, Lei, Romano and
Sesia, "Testing for outliers with conformal p-values", Annals of Statistics 51 (2023), doi:10.1214/22-AOS2244; of
clusters Lee, Barber and Willett, "Distribution-free inference with hierarchical data" (2023), arXiv:2306.06342.
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
    independent of the unit, and the p-value is valid where unit and null score could be exchanged. Of clusters each
    counts once, by the share of its null scores that reach the score: units of one cluster rise and fall together, and
    counted one by one they would make a p-value of a size that so few clusters cannot give. Never below 1 over the
    number of clusters. p-values of several units share one null sample and depend on each other.

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
        >>> paired_p_values([3.0, 0.2, 0.1], [0.5, 0.0, 0.3], ["ann", "bob", "bob"])
        array([0.5, 1. , 1. ])
    """
    x, y = as_scores(scores, name="scores"), as_scores(null, name="null")
    same_length(scores=x, null=y)
    owner = owners(len(x), cluster)
    same_length(scores=x, cluster=owner)
    if owner.max() == 0:
        raise Underpowered(
            f"{len(x)} units of one cluster", "have no others whose null scores they could be compared with", "Give 20."
        )
    beside, size = _in_cluster(x, y, owner)
    reached = _clusters_reaching(x, y, owner) - beside / size
    return np.asarray(np.minimum(1.0, (1.0 + reached) / (1.0 + owner.max())), dtype=np.float64)


def clustered_p_values(scores: ArrayLike, held_out: ArrayLike, cluster: ArrayLike | None = None) -> Floats:
    """``[N]`` share of held-out clusters, each by the share of its units that score at least as high, with the unit
    itself counted in: `reticent.stats.hypothesis.p_values` where held-out units come in clusters.

    Valid for a unit of a cluster that is none of the held-out ones (hierarchical conformal prediction; Lee, Barber and
    Willett 2023, arXiv:2306.06342). Never below 1 over one more than the number of held-out clusters.

    Args:
        scores: ``[N]``, higher is worse.
        held_out: ``[M]``.
        cluster: ``[M]`` user of each held-out unit; None where units are independent.

    Examples:
        >>> clustered_p_values([3.0, 0.2], [0.5, 0.1, 0.3], ["ann", "bob", "bob"])
        array([0.33333333, 0.83333333])
    """
    x, y = as_scores(scores, name="scores"), as_scores(held_out, name="held_out")
    owner = owners(len(y), cluster)
    same_length(held_out=y, cluster=owner)
    reached = _clusters_reaching(x, y, owner)
    return np.asarray(np.minimum(1.0, (1.0 + reached) / (2.0 + owner.max())), dtype=np.float64)


def owners(units: int, cluster: ArrayLike | None) -> NDArray[np.intp]:
    """``[units]`` number of each unit's cluster; its own number where there are no clusters.

    >>> owners(3, ["b", "a", "b"]).tolist(), owners(2, None).tolist()
    ([1, 0, 1], [0, 1])
    """
    if cluster is None:
        return np.arange(units)
    names = np.asarray(cluster)
    return np.unique(names if names.dtype.kind in "iu" else names.astype(str), return_inverse=True)[1]


def _clusters_reaching(x: Floats, y: Floats, owner: NDArray[np.intp]) -> Floats:
    """``[N]`` sum over clusters of the share of their values in ``y`` that reach each of ``x``."""
    order = np.argsort(y, kind="stable")
    weight = np.cumsum((1.0 / np.bincount(owner)[owner])[order][::-1])
    reached = len(y) - np.searchsorted(y[order], x, side="left")
    return np.concatenate([[0.0], weight])[reached]


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
