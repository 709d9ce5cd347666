# SPDX-License-Identifier: Apache-2.0
"""Means and their differences, with intervals that know that records of one user are not independent."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, same_length
from reticent.stats.scores import as_scores


def ratio_of_sums(
    total: ArrayLike,
    count: ArrayLike,
    cluster: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    unit: str = "",
    higher_is_worse: bool = True,
) -> Estimate:
    """``Σ total / Σ count``, for example nats a token over records of different lengths.

    The interval is that of a ratio estimator: linearised, Student's t with clusters - 1 degrees of freedom
    (doi:10.1002/9780470316481, ch. 6).

    Args:
        total: ``[N]``.
        count: ``[N]``, positive.
        cluster: ``[N]`` user of each record; None where records are independent.
        confidence: two-sided coverage.
        unit: of the ratio.
        higher_is_worse: as in `Estimate`.

    Raises:
        BadInput: NaN, nothing, or lengths that differ.
        Underpowered: fewer than 2 clusters.
    """
    in_range(0, 1, confidence=confidence)
    x, n = as_scores(total, name="total"), as_scores(count, name="count")
    owner = _owners(len(x), cluster)
    same_length(total=x, count=n, cluster=owner)
    value = float(x.sum() / n.sum())
    clusters = _enough(owner, "records")
    residual = np.bincount(np.unique(owner, return_inverse=True)[1], weights=x - value * n)
    error = math.sqrt(clusters / (clusters - 1) * float((residual**2).sum())) / float(n.sum())
    half = float(student.ppf((1 + confidence) / 2, clusters - 1)) * error
    return Estimate(
        value=value,
        lo=value - half,
        hi=value + half,
        n=len(x),
        method=f"ratio of sums, linearised over {_named(clusters, cluster)}, Student t",
        confidence=confidence,
        unit=unit,
        higher_is_worse=higher_is_worse,
    )


def difference_of_means(
    x: ArrayLike,
    y: ArrayLike,
    x_cluster: ArrayLike | None = None,
    y_cluster: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    unit: str = "",
    higher_is_worse: bool = True,
    within: float | None = None,
) -> Estimate:
    """``mean(x) - mean(y)`` of two groups of records that may belong to the same users.

    Each user's share in the difference is summed over both groups, so what a user's records have in common cancels
    where the user is in both. Student's t with the degrees of freedom of the smaller group (users - 1): careful.

    Args:
        x: ``[N_x]``.
        y: ``[N_y]``.
        x_cluster: ``[N_x]`` user of each; None where records are independent.
        y_cluster: ``[N_y]``; may share users with ``x_cluster``.
        confidence: two-sided coverage.
        unit: of the difference.
        higher_is_worse: as in `Estimate`.
        within: width of the range that single values lie in, where known: should none of them differ, the interval is
            Hoeffding's over disjoint pairs instead of a point.

    Raises:
        BadInput: NaN, nothing, or lengths that differ.
        Underpowered: fewer than 2 clusters in a group.
    """
    in_range(0, 1, confidence=confidence)
    a, b = as_scores(x, name="x"), as_scores(y, name="y")
    a_owner, b_owner = _owners(len(a), x_cluster), _owners(len(b), y_cluster)
    if x_cluster is None and y_cluster is None:
        b_owner = b_owner + len(a)
    same_length(x=a, x_cluster=a_owner)
    same_length(y=b, y_cluster=b_owner)
    groups = _enough(a_owner, "one group"), _enough(b_owner, "the other group")
    value = float(a.mean() - b.mean())
    share = np.concatenate([(a - a.mean()) / len(a), -(b - b.mean()) / len(b)])
    number = np.unique(np.concatenate([a_owner, b_owner]), return_inverse=True)[1]
    clusters = int(number.max()) + 1
    of_cluster = np.bincount(number, weights=share)
    error = math.sqrt(clusters / (clusters - 1) * float((of_cluster**2).sum()))
    if error < 1e-15 and within is not None:
        half = 2 * within * math.sqrt(math.log(2 / (1 - confidence)) / (2 * min(groups)))
        method = "Hoeffding over disjoint pairs (no variance in the sample)"
    else:
        half = float(student.ppf((1 + confidence) / 2, min(groups) - 1)) * error
        method = f"difference of means over {_named(clusters, x_cluster)}, Student t"
    return Estimate(
        value=value,
        lo=value - half,
        hi=value + half,
        n=len(a) + len(b),
        method=method,
        confidence=confidence,
        unit=unit,
        higher_is_worse=higher_is_worse,
    )


def _owners(n: int, cluster: ArrayLike | None) -> NDArray[np.generic]:
    return np.arange(n) if cluster is None else np.asarray(cluster).astype(str)


def _enough(owner: NDArray[np.generic], what: str) -> int:
    clusters = len(np.unique(owner))
    if clusters < 2:
        raise Underpowered(f"{what} of 1 user or record", "its spread cannot be told", "Use more of them.")
    return clusters


def _named(clusters: int, cluster: ArrayLike | None) -> str:
    return f"{clusters} {'records' if cluster is None else 'users'}"
