# SPDX-License-Identifier: Apache-2.0
"""Lists of who should be protected: made of several scores by their ranks, and judged by what was memorized in the end.

Direction: a higher risk means "protect first"; a higher outcome means "memorized more".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv
from scipy.stats import rankdata
from scipy.stats import t as student

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, positive, same_length
from reticent.stats.clustered import auc_clustered
from reticent.stats.intervals import clopper_pearson
from reticent.stats.roc import auc, tpr_at_fpr
from reticent.stats.scores import Floats, as_scores

SHARE = 0.1
"""Records that are called memorized, and that a list flags: the paper's top 10 %."""
RECALL = 0.75
"""Where lists are compared: the false alarms it takes to find so many of the memorized."""


@dataclass(frozen=True, kw_only=True)
class RiskQuality:
    """How well a list foresaw what was memorized. Each interval holds by itself.

    Args:
        tpr: share of the memorized that were flagged; chance is the share that is flagged.
        fpr: share of the others that were flagged; lower is better.
        fpr_at_recall: share of the others that rank above the point at which 75 % of the memorized are found; None
            where there are too few memorized.
        auc: probability that a memorized record ranks above another; 0.5 is chance.
        memorized, others: records of both kinds.
        refused: what is missing and why, a sentence each.
    """

    tpr: Estimate
    fpr: Estimate
    fpr_at_recall: Estimate | None
    auc: Estimate
    memorized: int
    others: int
    refused: tuple[str, ...] = ()


def rank_average(*scores: ArrayLike) -> Floats:
    """``[N]`` mean of the records' ranks in each score, in (0, 1]; ties share their rank.

    >>> rank_average([1.0, 2.0, 3.0], [5.0, 9.0, 7.0])
    array([0.33333333, 0.83333333, 0.83333333])

    Args:
        scores: ``[N]`` each, higher = more at risk.
    """
    columns = [as_scores(score, name="scores") for score in scores]
    same_length(**{f"score_{place}": column.tolist() for place, column in enumerate(columns)})
    return np.asarray(np.mean([rankdata(column) / len(column) for column in columns], axis=0))


def places(risk: ArrayLike) -> NDArray[np.int64]:
    """``[N]`` place of each record, 1 = protect first; ties in the order given.

    >>> places([0.2, 0.9, 0.2])
    array([2, 1, 3])
    """
    x = as_scores(risk, name="risk")
    place = np.empty(len(x), dtype=np.int64)
    place[np.argsort(-x, kind="stable")] = np.arange(1, len(x) + 1)
    return place


def top(values: ArrayLike, share: float = SHARE) -> NDArray[np.bool_]:
    """``[N]`` the highest ``ceil(share · N)``; ties in the order given."""
    in_range(0, 1, share=share)
    x = as_scores(values, name="values")
    return np.asarray(places(x) <= math.ceil(share * len(x) - 1e-9))


def quality(
    risk: ArrayLike,
    outcome: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    share: float = SHARE,
    recall: float = RECALL,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> RiskQuality:
    """Hold a list against the outcome: the top ``share`` by ``outcome`` are what was memorized.

    Intervals take what was memorized as given. Without clusters they are Clopper-Pearson's; the one at a fixed recall
    also covers the uncertainty of the threshold (`reticent.stats.roc.tpr_at_fpr`). With clusters, whole users are the
    units: shares by Clopper-Pearson for the effective number of records (Korn and Graubard 1998), the one at a fixed
    recall by a bootstrap of users, approximate.

    Args:
        risk: ``[N]``, known early.
        outcome: ``[N]``, known in the end.
        cluster: ``[N]`` users, if their records are not independent.
        share: of records that count as memorized, and that are flagged.
        recall: at which false alarms are compared.
        confidence: of each interval.
        draws, seed: of the bootstrap.

    Raises:
        Underpowered: fewer than 10 memorized records.
    """
    in_range(0, 1, share=share, recall=recall, confidence=confidence)
    positive(draws=draws)
    x, y = as_scores(risk, name="risk"), as_scores(outcome, name="outcome")
    same_length(risk=x.tolist(), outcome=y.tolist())
    memorized, flagged = top(y, share), top(x, share)
    if memorized.sum() < 10 or (~memorized).sum() < 10:
        raise Underpowered(
            f"{len(x)} records", f"only {memorized.sum()} of them count as memorized", f"Use {math.ceil(10 / share)}."
        )
    user = None if cluster is None else np.unique(np.asarray(cluster), return_inverse=True)[1]
    if user is not None:
        same_length(risk=x.tolist(), cluster=user.tolist())
    fpr_at_recall: Estimate | None = None
    refused: tuple[str, ...] = ()
    try:
        fpr_at_recall = _fpr_at_recall(x, memorized, user, recall, confidence, draws, seed)
    except Underpowered:
        need = math.ceil(10 / (1 - recall) - 1e-9)
        refused = (f"FPR at {recall:.0%} recall: {memorized.sum()} memorized records, and it takes {need}",)
    return RiskQuality(
        tpr=replace(_share(flagged, memorized, user, confidence), higher_is_worse=False),
        fpr=_share(flagged, ~memorized, user, confidence),
        fpr_at_recall=fpr_at_recall,
        auc=replace(_auc(x, memorized, user, confidence), higher_is_worse=False),
        memorized=int(memorized.sum()),
        others=int((~memorized).sum()),
        refused=refused,
    )


def _share(
    hit: NDArray[np.bool_], among: NDArray[np.bool_], user: NDArray[np.intp] | None, confidence: float
) -> Estimate:
    """Share of ``among`` that are ``hit``."""
    hits, trials = int((hit & among).sum()), int(among.sum())
    value = hits / trials
    if user is None:
        lo, hi = map(float, clopper_pearson(hits, trials, confidence=confidence))
        method = "Clopper-Pearson"
    else:
        effective = effective_trials(hit[among], user[among], confidence=confidence)
        miss = (1 - confidence) / 2
        lo, hi = _beta_ends(value * effective, effective, miss)
        method = f"Clopper-Pearson for {effective:.0f} effective records, clustered by user"
    return Estimate(value=value, lo=lo, hi=hi, n=trials, method=method, confidence=confidence)


def effective_trials(hit: ArrayLike, user: ArrayLike, *, confidence: float = 0.95) -> float:
    """How many independent trials would leave a share as uncertain as these, whose users' trials are alike.

    Korn and Graubard (1998, Survey Methodology 24): ``value·(1 - value) / variance``, with the variance between users,
    times the squared ratio of Student's t for the trials to that for the users; never more than there are trials. A
    share of 0 or 1 has no variance, and counts each user once.
    """
    hits, number = np.asarray(hit, dtype=np.float64), np.unique(np.asarray(user), return_inverse=True)[1]
    n, users, value = len(hits), int(number.max()) + 1, float(hits.mean())
    if users < 2 or value in (0.0, 1.0):
        return float(users)
    sums = np.bincount(number, weights=hits - value)
    variance = users / (users - 1) * float((sums**2).sum()) / n**2
    if variance == 0:  # users agree by chance; that says nothing about their spread
        return float(users)
    tail = (1 + confidence) / 2
    ratio = float(student.ppf(tail, n - 1) / student.ppf(tail, users - 1))
    return min(float(n), max(1.0, value * (1 - value) / variance * ratio**2))


def _beta_ends(hits: float, trials: float, miss: float) -> tuple[float, float]:
    """Clopper-Pearson for counts that need not be whole."""
    lo = float(betaincinv(hits, trials - hits + 1, miss)) if hits > 0 else 0.0
    hi = float(betaincinv(hits + 1, trials - hits, 1 - miss)) if hits < trials else 1.0
    return lo, hi


def _fpr_at_recall(
    risk: Floats,
    memorized: NDArray[np.bool_],
    user: NDArray[np.intp] | None,
    recall: float,
    confidence: float,
    draws: int,
    seed: int,
) -> Estimate:
    """1 less the share of the others below the value that at most ``1 - recall`` of the memorized stay below."""
    below = tpr_at_fpr(-risk[~memorized], -risk[memorized], 1 - recall, confidence=confidence)
    flipped = replace(below, value=1 - below.value, lo=1 - below.hi, hi=1 - below.lo)
    if user is None:
        return flipped

    def measured(weight: NDArray[np.int64]) -> float:
        return _weighted_fpr(risk, memorized, weight, recall)

    lo, hi = _bootstrap(measured, user, confidence=confidence, draws=draws, seed=seed)
    lo, hi = min(lo, flipped.value), max(hi, flipped.value)
    return replace(flipped, lo=lo, hi=hi, method=f"bootstrap of {int(user.max()) + 1} users, percentiles")


def _weighted_fpr(risk: Floats, memorized: NDArray[np.bool_], weight: NDArray[np.int64], recall: float) -> float:
    """The same for records that count ``weight`` times; NaN where a kind is missing."""
    of_memorized, other = weight * memorized, weight * ~memorized
    if not of_memorized.any() or not other.any():
        return math.nan
    order = np.argsort(risk, kind="stable")
    left = np.cumsum(of_memorized[order])  # memorized records up to each value
    passing = math.floor((1 - recall) * of_memorized.sum() + 1e-9)
    cut = risk[order[min(int(np.searchsorted(left, passing, side="right")), len(order) - 1)]]
    return float(other[risk >= cut].sum() / other.sum())


def _bootstrap(
    measured: Callable[[NDArray[np.int64]], float],
    user: NDArray[np.intp],
    *,
    confidence: float,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """Percentiles of what resamples of whole users give."""
    rng = np.random.default_rng(seed)
    users = int(user.max()) + 1
    replicates = np.array(
        [measured(rng.multinomial(users, np.full(users, 1 / users)).astype(np.int64)[user]) for _ in range(draws)]
    )
    lo, hi = np.nanquantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lo), float(hi)


def _auc(risk: Floats, memorized: NDArray[np.bool_], user: NDArray[np.intp] | None, confidence: float) -> Estimate:
    if user is None:
        return auc(risk[memorized], risk[~memorized], confidence=confidence)
    return auc_clustered(risk[memorized], risk[~memorized], user[memorized], user[~memorized], confidence=confidence)
