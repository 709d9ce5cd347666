# SPDX-License-Identifier: Apache-2.0
"""Statistics of many resamples at once. All trainings that are compared share the resamples, so differences are paired.

A resample is a column of weights: how often each cluster (a user, or a record where there are no users) was drawn. The
first column is the sample itself, with every weight 1. A statistic is ``[B]``, NaN where a resample has an empty side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from reticent.core.validate import positive
from reticent.stats.scores import Floats


def cluster_weights(clusters: int, *, n_boot: int, seed: int = 0) -> Floats:
    """``[clusters, 1 + n_boot]``: ones, then ``n_boot`` draws of as many clusters with replacement."""
    positive(clusters=clusters, n_boot=n_boot)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=n_boot).T
    return np.concatenate([np.ones((clusters, 1)), draws], axis=1)


def weighted_mean(value: ArrayLike, count: ArrayLike, weight: ArrayLike) -> Floats:
    """``[B]``: mean of what ``value [N]`` sums up over ``count [N]``, such as nats over tokens; ``weight [N, B]``."""
    draws = np.asarray(weight, dtype=np.float64)
    total = np.asarray(count, dtype=np.float64) @ draws
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = (np.asarray(value, dtype=np.float64) @ draws) / total
    return mean


def weighted_auc(score: ArrayLike, member: NDArray[np.bool_], weight: ArrayLike) -> Floats:
    """``[B]``: probability that a member scores above a held-out unit, ties half. Higher leaks more.

    Args:
        score: ``[N]``, higher = member.
        member: ``[N]`` bool.
        weight: ``[N, B]``.
    """
    inside, outside = _by_score(score, member, weight)
    wins = np.einsum("vb,vb->b", inside, np.cumsum(outside, axis=0) - outside / 2)
    pairs = inside.sum(axis=0) * outside.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = wins / pairs
    return area


def weighted_tpr(score: ArrayLike, member: NDArray[np.bool_], weight: ArrayLike, *, fpr: float = 0.1) -> Floats:
    """``[B]``: share of members above the score that at most a share ``fpr`` of held-out units pass. Higher leaks more.

    The same as `reticent.stats.roc.tpr_at_fpr` where all weights are 1: caught is strictly above a held-out score, so
    ties never push the false positive rate over ``fpr``. Arguments as in `weighted_auc`.
    """
    inside, outside = (side[::-1] for side in _by_score(score, member, weight))
    total = outside.sum(axis=0)
    passing = np.cumsum(outside, axis=0) <= fpr * total + 1e-9
    last = passing.sum(axis=0) - 1
    caught = np.cumsum(inside, axis=0)[np.maximum(last, 0), np.arange(inside.shape[1])]
    members = inside.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(last >= 0, caught, 0.0) / members
    return np.where(total > 0, share, np.nan)


def _by_score(score: ArrayLike, member: NDArray[np.bool_], weight: ArrayLike) -> tuple[Floats, Floats]:
    """Weights of members and of held-out units at each distinct score, rising: twice ``[V, B]``."""
    values, place = np.unique(np.asarray(score, dtype=np.float64), return_inverse=True)
    draws = np.asarray(weight, dtype=np.float64)
    sides = []
    for side in (member, ~member):
        rows = np.flatnonzero(side)
        at = csr_array((np.ones(len(rows)), (place[rows], rows)), shape=(len(values), len(place)))
        sides.append(at @ draws)
    return sides[0], sides[1]
