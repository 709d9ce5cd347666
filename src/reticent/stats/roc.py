# SPDX-License-Identifier: Apache-2.0
"""How well scores tell members from held-out units: the ROC curve, TPR at a fixed FPR, and AUC of independent units.

Direction everywhere: a higher score says "member", and a larger statistic means more leakage. For records that belong
to users see `reticent.stats.clustered`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import rankdata
from scipy.stats import t as student

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range
from reticent.stats.intervals import clopper_pearson_lower, clopper_pearson_upper, quantile_order
from reticent.stats.scores import Floats, as_scores

DECIDING = 10
"""False positives that have to be expected at a threshold for a rate to be stated there."""


class RocCurve(NamedTuple):
    """Corners of a ROC curve: rising ``fpr`` and ``tpr`` of equal length, both from 0 to 1."""

    fpr: Floats
    tpr: Floats


class Placements(NamedTuple):
    """DeLong's placement values: the share of the other group that a unit beats (ties count half)."""

    member: Floats
    """``[N_member]``: share of held-out below this member. Its mean is the AUC."""
    held_out: Floats
    """``[N_held_out]``: share of members above this held-out unit. Its mean is the AUC too."""


def auc(member: ArrayLike, held_out: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Probability that a member scores above a held-out unit (ties count half), with DeLong's interval.

    The units must be independent of each other. Higher leaks more; 0.5 is chance. The variance is DeLong's, by
    mid-ranks in O(n log n); the interval is symmetric on the logit scale, so it stays inside (0, 1), with Student's
    t (Welch-Satterthwaite degrees of freedom) so that a small group widens it. Where that variance is 0 it says
    nothing, and the interval is a conservative one over ``k = min(n_member, n_held_out)`` disjoint pairs: at
    AUC 0 or 1 Clopper-Pearson with k of k won, otherwise Hoeffding's bound. ``method`` tells which.

    Args:
        member: ``[N_member]`` scores, ``±inf`` allowed.
        held_out: ``[N_held_out]`` scores.
        confidence: two-sided coverage.

    Raises:
        BadInput: NaN or no scores.
        Underpowered: fewer than 2 units in a group.

    Sources: doi:10.2307/2531595 (variance), doi:10.1109/LSP.2014.2337313 (mid-ranks), doi:10.2307/2282952 (Hoeffding).

    Examples:
        >>> estimate = auc([2.1, 1.8, 0.7, 1.9, 2.5], [0.2, 0.9, 1.1, 0.4, 0.8])
        >>> round(estimate.value, 2), estimate.n, estimate.method
        (0.88, 10, 'DeLong, logit scale, Student t')
    """
    in_range(0, 1, confidence=confidence)
    x, y = as_scores(member, name="member"), as_scores(held_out, name="held_out")
    for name, group in (("member", x), ("held-out", y)):
        if len(group) < 2:
            raise Underpowered(f"1 {name} unit", "its spread cannot be told", "Use at least 2, better 100, of each.")
    placed = placements(x, y)
    value = float(placed.member.mean())
    parts = np.array([placed.member.var(ddof=1) / len(x), placed.held_out.var(ddof=1) / len(y)])
    if parts.sum() < 1e-28:  # rounding noise only
        return without_variance(value, pairs=min(len(x), len(y)), n=len(x) + len(y), confidence=confidence)
    freedom = parts.sum() ** 2 / (parts**2 / np.array([len(x) - 1, len(y) - 1])).sum()
    lo, hi = logit_interval(value, math.sqrt(parts.sum()), freedom=freedom, confidence=confidence)
    return Estimate(
        value=value, lo=lo, hi=hi, n=len(x) + len(y), method="DeLong, logit scale, Student t", confidence=confidence
    )


def placements(member: Floats, held_out: Floats) -> Placements:
    """Placement values of both groups by mid-ranks, O(n log n)."""
    m, n = len(member), len(held_out)
    pooled = rankdata(np.concatenate([member, held_out]))
    return Placements(
        member=(pooled[:m] - rankdata(member)) / n,
        held_out=1.0 - (pooled[m:] - rankdata(held_out)) / m,
    )


def logit_interval(value: float, error: float, *, freedom: float, confidence: float) -> tuple[float, float]:
    """Interval of a share strictly between 0 and 1 with standard error ``error``, symmetric on the logit scale."""
    half = student.ppf((1 + confidence) / 2, freedom) * error / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def without_variance(value: float, *, pairs: int, n: int, confidence: float) -> Estimate:
    """Conservative AUC estimate from ``pairs`` disjoint pairs, for samples whose estimated variance is 0."""
    if value in (0.0, 1.0):
        bound = float(clopper_pearson_lower(pairs, pairs, (1 - confidence) / 2))
        lo, hi = (bound, 1.0) if value == 1.0 else (0.0, 1.0 - bound)
        method = "Clopper-Pearson over disjoint pairs (all pairs on one side)"
    else:
        half = math.sqrt(math.log(2 / (1 - confidence)) / (2 * pairs))
        lo, hi = max(0.0, value - half), min(1.0, value + half)
        method = "Hoeffding over disjoint pairs (no variance in the sample)"
    return Estimate(value=value, lo=lo, hi=hi, n=n, method=method, confidence=confidence)


def tpr_at_fpr(member: ArrayLike, held_out: ArrayLike, fpr: float, *, confidence: float = 0.95) -> Estimate:
    """Share of members caught at the threshold that at most a share ``fpr`` of held-out units pass.

    The threshold is a held-out score and "caught" means strictly above it, so ties never push the empirical FPR over
    ``fpr``. Higher leaks more; a harmless model gives about ``fpr``.

    The interval covers the TPR at the *population* threshold t (the ``1 - fpr`` quantile of held-out scores), not only
    at the estimated one: order statistics of the held-out enclose t, the TPR falls as the threshold rises, so
    Clopper-Pearson bounds at the two enclosing scores enclose the TPR. Half of the allowed misses goes to the
    threshold and half to the members (Bonferroni), so it holds for any distribution and sample size, with ties.

    Args:
        member: ``[N_member]`` independent scores.
        held_out: ``[N_held_out]`` independent scores.
        fpr: in (0, 1).
        confidence: two-sided coverage, at least.

    Raises:
        BadInput: NaN or no scores.
        Underpowered: fewer than ``10 / fpr`` held-out units; says how many are needed.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> estimate = tpr_at_fpr(rng.normal(2, 1, 500), rng.normal(0, 1, 500), 0.1)
        >>> 0.5 < estimate.lo < estimate.value < estimate.hi < 1
        True
        >>> tpr_at_fpr([1.0, 2.0], [0.0, 0.5], 0.01)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.Underpowered: TPR at FPR 0.01 with 2 held-out units: ... Hold out at least 1000, ...
    """
    in_range(0, 1, fpr=fpr, confidence=confidence)
    x, y = as_scores(member, name="member"), np.sort(as_scores(held_out, name="held_out"))
    need_for_fpr(len(y), fpr)
    passing = math.floor(fpr * len(y) + 1e-9)
    miss = (1 - confidence) / 2
    below, above, _ = quantile_order(len(y), 1 - fpr, miss)
    loose = y[below] if below >= 0 else -np.inf
    strict = y[above] if above < len(y) else np.inf
    caught_loose = len(x) if below < 0 else _above(x, loose)
    return Estimate(
        value=_above(x, y[len(y) - 1 - passing]) / len(x) if passing < len(y) else 1.0,
        lo=float(clopper_pearson_lower(_above(x, strict), len(x), miss / 2)),
        hi=float(clopper_pearson_upper(caught_loose, len(x), miss / 2)),
        n=len(x) + len(y),
        method="Clopper-Pearson, threshold by order statistics",
        confidence=confidence,
    )


def need_for_fpr(n_held_out: int, fpr: float) -> None:
    """Refuse a false positive rate that rests on fewer than 10 expected false positives.

    Raises:
        Underpowered: fewer than ``10 / fpr`` held-out units.
    """
    need = math.ceil(DECIDING / fpr - 1e-9)
    if n_held_out < need:
        raise Underpowered(
            f"TPR at FPR {fpr:g} with {n_held_out} held-out units",
            f"the threshold would rest on {fpr * n_held_out:.3g} of them",
            f"Hold out at least {need}, or ask for an FPR of {10 / n_held_out:.2g} or more.",
        )


def roc_curve(member: ArrayLike, held_out: ArrayLike) -> RocCurve:
    """The empirical ROC curve from (0, 0) to (1, 1); tied scores are one slanted step, so its area is the AUC.

    Examples:
        >>> curve = roc_curve([3.0, 2.0], [1.0, 2.0])
        >>> curve.fpr.tolist(), curve.tpr.tolist()
        ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    x, y = as_scores(member, name="member"), as_scores(held_out, name="held_out")
    values = np.unique(np.concatenate([x, y]))[::-1]
    tpr = (len(x) - np.searchsorted(np.sort(x), values, side="left")) / len(x)
    fpr = (len(y) - np.searchsorted(np.sort(y), values, side="left")) / len(y)
    return RocCurve(np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr]))


def thin(fpr: ArrayLike, tpr: ArrayLike, points: int = 200) -> RocCurve:
    """A ROC curve of at most ``points`` corners for drawing, with the low-FPR end kept for logarithmic axes.

    Points inside a straight step go first, without loss. If more than ``points`` are left, the foot and the top of
    steps evenly spread in log FPR are kept (at the low end: of all steps), and tops evenly spread in FPR.
    """
    in_range(8, math.inf, points=points)
    x, y = np.asarray(fpr, dtype=np.float64), np.asarray(tpr, dtype=np.float64)
    dx, dy = np.diff(x), np.diff(y)
    corner = np.ones(len(x), dtype=bool)
    corner[1:-1] = np.abs(dx[:-1] * dy[1:] - dx[1:] * dy[:-1]) > 1e-15
    x, y = x[corner], y[corner]
    if len(x) <= points:
        return RocCurve(x, y)
    share = (points - 3) // 3
    steps = np.geomspace(x[x > 0].min(), 1.0, share) * (1 + 1e-12)
    top = np.searchsorted(x, np.concatenate([steps, np.linspace(0.0, 1.0, share)]), side="right") - 1
    foot = np.searchsorted(x, x[top[:share]], side="left")
    index = np.unique(np.concatenate([[0, len(x) - 1], top, foot]))
    return RocCurve(x[index], y[index])


def _above(scores: Floats, threshold: float) -> int:
    return int(np.count_nonzero(scores > threshold))
