# SPDX-License-Identifier: Apache-2.0
"""AUC of records that belong to users: records of one user are alike, so whole users are resampled.

Of very many records the closed form takes the place of the resamples (Obuchowski 1997, doi:10.2307/2533958).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, positive, same_length
from reticent.stats.roc import Placements, logit_interval, placements, without_variance
from reticent.stats.scores import Floats, as_scores

MIN_CLUSTERS = 20
"""Fewer users than this, and a bootstrap over users is not to be trusted: records are taken as independent."""
MIN_USERS = 10
"""Minimum users in each group for a user-level comparison."""
CLOSED_FORM = 100_000
"""Records of both groups from which on the variance is Obuchowski's closed form, where users are many."""
CLOSED_FORM_USERS = 1000
"""Fewer users with members, or with held-out records, than this, and they are resampled however many records they have:
the closed form is for many users."""
CELLS = 1 << 21
"""Entries of one block of resamples, so that memory does not grow with ``n_boot``."""


def auc_clustered(
    member: ArrayLike,
    held_out: ArrayLike,
    member_cluster: ArrayLike,
    held_out_cluster: ArrayLike,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """AUC over records with an interval that knows that records of one user are not independent.

    Users are drawn with replacement, each with all of its records, members and held-out alike. The spread of the
    resampled AUCs is the standard error; the interval is symmetric on the logit scale, with Student's t whose degrees
    of freedom come from the users (Welch-Satterthwaite, at most users - 1). From ``CLOSED_FORM`` records of
    ``CLOSED_FORM_USERS`` users in each group on, the standard error is Obuchowski's closed form: the same to a few
    percent, which is how far resamples differ among each other. Where it is 0, or all resamples agree, a conservative
    bound over disjoint pairs of users takes its place, as in `reticent.stats.roc.auc`. Users must be independent of
    each other. Higher leaks more; 0.5 is chance.

    Args:
        member: ``[N_member]`` scores.
        held_out: ``[N_held_out]`` scores.
        member_cluster: ``[N_member]`` user of each member record (strings or integers).
        held_out_cluster: ``[N_held_out]`` user of each held-out record; may share users with ``member_cluster``.
        n_boot: resamples.
        seed: of the resampling; the same seed gives the same interval.
        confidence: two-sided coverage.

    Raises:
        BadInput: NaN or no scores, or clusters of another length than the scores.
        Underpowered: members or held-out of fewer than 2 users.

    Examples:
        >>> inside, outside = ["ana", "ana", "ben", "cy"], ["ana", "ben", "ben", "cy"]
        >>> estimate = auc_clustered([3, 4, 2, 5], [1, 2, 0, 3], inside, outside)
        >>> round(estimate.value, 3), estimate.n
        (0.875, 8)
    """
    in_range(0, 1, confidence=confidence)
    positive(n_boot=n_boot)
    x, y = as_scores(member, name="member"), as_scores(held_out, name="held_out")
    x_user, y_user, users = _users(x, y, member_cluster, held_out_cluster)
    x_users, y_users = len(np.unique(x_user)), len(np.unique(y_user))
    for name, count in (("members", x_users), ("held-out records", y_users)):
        if count < 2:
            raise Underpowered(f"{name} of 1 user", "the spread between users cannot be told", "Use more users.")
    placed = placements(x, y)
    value = float(placed.member.mean())
    closed = len(x) + len(y) >= CLOSED_FORM and min(x_users, y_users) >= CLOSED_FORM_USERS
    if closed:
        error, how = obuchowski_error(placed, x_user, y_user, users), "Obuchowski's clustered variance"
    else:
        resampled = _resampled(x, y, x_user, y_user, users, n_boot=n_boot, seed=seed)
        error, how = float(resampled.std(ddof=1)) if len(resampled) > 1 else 0.0, "bootstrap"
    pairs = min(x_users, y_users, users // 2)
    if error < 1e-9 or value in (0.0, 1.0):
        return without_variance(value, pairs=pairs, n=len(x) + len(y), confidence=confidence)
    freedom = _freedom(placed, x_user, y_user, users)
    lo, hi = logit_interval(value, error, freedom=freedom, confidence=confidence)
    method = f"{how} of {users} users, logit scale, Student t"
    return Estimate(value=value, lo=lo, hi=hi, n=len(x) + len(y), method=method, confidence=confidence)


def _users(
    x: Floats, y: Floats, member_cluster: ArrayLike, held_out_cluster: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Users of both groups as numbers from 0, and how many there are in all."""
    member_names, held_out_names = np.asarray(member_cluster), np.asarray(held_out_cluster)
    same_length(member=x, member_cluster=member_names)
    same_length(held_out=y, held_out_cluster=held_out_names)
    names, number = np.unique(np.concatenate([member_names, held_out_names]), return_inverse=True)
    return number[: len(x)], number[len(x) :], len(names)


def obuchowski_error(placed: Placements, x_user: NDArray[np.intp], y_user: NDArray[np.intp], users: int) -> float:
    """Standard error of an AUC whose users may have members, held-out records, or both (doi:10.2307/2533958).

    Each user's placement values are summed, less as many times the AUC, for either group; a user who is in both adds
    the product of the two sums.

    Args:
        placed: placement values of both groups.
        x_user, y_user: ``[N_member]``, ``[N_held_out]`` users from 0.
        users: in all.
    """
    of_x, of_y = (
        np.bincount(user, weights=values - values.mean(), minlength=users) / len(values)
        for values, user in ((placed.member, x_user), (placed.held_out, y_user))
    )
    in_x, in_y = len(np.unique(x_user)), len(np.unique(y_user))
    variance = in_x / (in_x - 1) * float((of_x**2).sum()) + in_y / (in_y - 1) * float((of_y**2).sum())
    return math.sqrt(max(0.0, variance + 2 * users / (users - 1) * float((of_x * of_y).sum())))


def _freedom(placed: Placements, x_user: NDArray[np.intp], y_user: NDArray[np.intp], users: int) -> float:
    """Welch-Satterthwaite degrees of freedom from the two groups' clustered variances (doi:10.2307/2533958)."""
    parts, size = [], []
    for values, user in ((placed.member, x_user), (placed.held_out, y_user)):
        sums = np.bincount(user, weights=values - values.mean(), minlength=users)
        count = len(np.unique(user))
        parts.append(count / (count - 1) * float((sums**2).sum()) / len(values) ** 2)
        size.append(count - 1)
    if sum(parts) == 0:
        return float(min(size))
    return min(users - 1.0, sum(parts) ** 2 / sum(part**2 / n for part, n in zip(parts, size, strict=True)))


def _resampled(
    x: Floats, y: Floats, x_user: NDArray[np.intp], y_user: NDArray[np.intp], users: int, *, n_boot: int, seed: int
) -> Floats:
    """AUC of each resample of users; resamples without members or without held-out records are left out.

    A resample is a vector of user weights. Weights times (users x distinct scores) counts gives the weighted counts
    of both groups at each distinct score, and one cumulative sum over the scores gives the AUC.
    """
    values, place = np.unique(np.concatenate([x, y]), return_inverse=True)
    x_counts = csr_array((np.ones(len(x)), (place[: len(x)], x_user)), shape=(len(values), users))
    y_counts = csr_array((np.ones(len(y)), (place[len(x) :], y_user)), shape=(len(values), users))
    rng = np.random.default_rng(seed)
    block = max(1, CELLS // len(values))
    areas = []
    for start in range(0, n_boot, block):
        draws = rng.multinomial(users, np.full(users, 1 / users), size=min(block, n_boot - start)).T.astype(np.float64)
        at_x, at_y = x_counts @ draws, y_counts @ draws
        wins = np.einsum("vb,vb->b", at_x, np.cumsum(at_y, axis=0) - at_y / 2)
        pairs = at_x.sum(axis=0) * at_y.sum(axis=0)
        areas.append(wins[pairs > 0] / pairs[pairs > 0])
    return np.concatenate(areas)
