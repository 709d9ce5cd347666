# SPDX-License-Identifier: Apache-2.0
"""One interval for two kinds of chance: which records there happened to be, and how each training happened to go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import t as student

from reticent.core.finding import Estimate
from reticent.stats.intervals import clopper_pearson_lower
from reticent.stats.scores import Floats


class SeedSpread(NamedTuple):
    """How much a mean over seeds varies because of the seeds.

    Args:
        variance: of the mean.
        freedom: degrees of freedom that it rests on; 0 where nothing is known (one seed).
    """

    variance: float
    freedom: float


def seed_spread(values: ArrayLike, others: Sequence[ArrayLike] = ()) -> SeedSpread:
    """Spread of the mean of ``values`` ``[S]``, one a seed.

    Two seeds say little of their own spread, so ``others``, like trainings with seeds of their own (other learning
    rates of the method), are pooled with it, and the larger of the pooled and the own variance counts: it is taken to
    be alike among them.
    """
    of_seed = np.asarray(values, dtype=np.float64)
    groups = [of_seed, *(np.asarray(group, dtype=np.float64) for group in others)]
    groups = [group[np.isfinite(group)] for group in groups]
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    if len(of_seed) < 2 or not freedom:
        return SeedSpread(0.0, 0.0)
    pooled = sum(float(((group - group.mean()) ** 2).sum()) for group in groups if len(group) > 1) / freedom
    return SeedSpread(max(pooled, float(of_seed.var(ddof=1))) / len(of_seed), freedom)


def over_seeds(
    resampled: Floats,
    spreads: Sequence[SeedSpread],
    *,
    clusters: int,
    n: int,
    share: bool = False,
    confidence: float = 0.95,
    joint: float | None = None,
    unit: str = "",
    higher_is_worse: bool = True,
) -> Estimate:
    """A mean over seeds, or a difference of such means, with one interval for records and seeds.

    The half width is the root of the sum of two squared half widths: Student's t times the spread over resampled
    clusters, and Student's t times the spread over seeds (the method of variance estimates recovery,
    doi:10.1002/sim.3095). It covers at least as often as it says, with 2 seeds too, for which it is wide; adding
    variances under one t (Satterthwaite) would cover 87 % instead of 95 % where 2 seeds differ more than the records
    do. On a share it is symmetric on the logit scale. Where the resamples do not vary, or a share is 0 or 1, a
    conservative bound over the clusters takes its place.

    Args:
        resampled: ``[1 + B]`` the value, then what each resample of clusters gave; NaN ones are left out.
        spreads: over the seeds of each group of trainings in the statistic; no spread is added for a group of one seed,
            so that its interval is about these trainings only.
        clusters: independent units that were resampled (users, or records), of the smaller side.
        n: records that it rests on.
        share: whether the value lies in [0, 1].

    Returns:
        An estimate whose ``method`` says what its interval is over.
    """
    value, draws = float(resampled[0]), resampled[1:][np.isfinite(resampled[1:])]
    error = float(draws.std(ddof=1)) if len(draws) > 1 else 0.0
    seeds = _half_width_of_seeds(spreads, confidence)
    estimate = partial(
        Estimate, value=value, n=n, confidence=confidence, joint=joint, unit=unit, higher_is_worse=higher_is_worse
    )
    over = "records"
    if spreads:
        over = "records and seeds" if all(spread.freedom for spread in spreads) else "records, one seed"
    if share and (error < 1e-9 or not 0 < value < 1):
        half = seeds + 1 - float(clopper_pearson_lower(clusters, clusters, (1 - confidence) / 2))
        method = f"bound over {clusters} units; {over}"
        return estimate(lo=max(0.0, value - half), hi=min(1.0, value + half), method=method)
    half = math.hypot(float(student.ppf((1 + confidence) / 2, max(clusters - 1, 1))) * error, seeds)
    method = f"bootstrap and Student t over {over}"
    if not share:
        return estimate(lo=value - half, hi=value + half, method=method)
    half /= value * (1 - value)
    lo, hi = float(expit(logit(value) - half)), float(expit(logit(value) + half))
    return estimate(lo=lo, hi=hi, method=f"{method}, logit scale")


def _half_width_of_seeds(spreads: Sequence[SeedSpread], confidence: float) -> float:
    """Of the sum of independent means: Student's t with Satterthwaite's degrees of freedom; 0 where none is known."""
    usable = [spread for spread in spreads if spread.freedom and spread.variance > 0]
    if not usable:
        return 0.0
    variance = sum(spread.variance for spread in usable)
    freedom = variance**2 / sum(spread.variance**2 / spread.freedom for spread in usable)
    return float(student.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
