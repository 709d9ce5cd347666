# SPDX-License-Identifier: Apache-2.0
"""AUCs and true positive rates of many attacks on the same units, with intervals that hold together and by themselves.

Each number is a mean over units in the first order: what a unit adds to its error (its influence) is known, users'
units are added up, and the influences of all numbers, weighed by the same random multipliers, give the distribution of
their largest error. So highly correlated attacks cost hardly more than one (max-T instead of Bonferroni), in one matrix
product whatever the number of attacks. Higher scores say "member", larger numbers leak more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range
from reticent.stats.contrasts import largest
from reticent.stats.roc import logit_interval, need_for_fpr, placements, without_variance
from reticent.stats.scores import Floats

DRAWS = 2000
"""Multipliers drawn for the largest error."""
SLOPE = 1.5
"""The ROC curve's slope is taken over so many standard errors of the false positive rate."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MemberSides:
    """The units that are members, and their owners.

    Args:
        member: ``[N]`` bool.
        owner: ``[N]`` numbers of the clusters, from 0; one number a unit where units are independent.
    """

    member: NDArray[np.bool_]
    owner: NDArray[np.intp]

    @property
    def owners(self) -> int:
        return int(self.owner.max(initial=-1)) + 1

    @property
    def alone(self) -> bool:
        """True if each unit is its own cluster."""
        return self.owners == len(self.owner)

    def count(self, of: NDArray[np.bool_]) -> int:
        """Owners of the units ``of``."""
        return len(np.unique(self.owner[of]))

    @property
    def pairs(self) -> int:
        """Disjoint pairs of a member and a held-out unit of which no two share an owner."""
        return min(self.count(self.member), self.count(~self.member), self.owners // 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rate:
    """The parts of a true positive rate's interval.

    Args:
        members: how many independent members would have that variance.
        held_out: how many independent held-out units.
        fpr: the false positive rate that is asked for.
        caught: the empirical ROC curve: share of members where a share of held-out units passes.
        kept: total variance over the sum of both sides' variances: below 1 where users have units on both sides.
    """

    members: float
    held_out: float
    fpr: float
    caught: Callable[[float], float]
    kept: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Number:
    """One statistic before it has an interval.

    Args:
        value: the statistic.
        influence: ``[owners]``: what each owner adds to its error; the squares sum to the variance.
        freedom: degrees of freedom of that variance (Welch-Satterthwaite over the sides' owners).
        n: units.
        pairs: of `MemberSides`.
        method: how the interval is made.
        rate: of a true positive rate; None for anything else.
        within: between which values an interval of plain Student t is cut off; None: of an AUC or a rate.
        alone_error: standard error if units were independent, for the design effect.
    """

    value: float
    influence: Floats
    freedom: float
    n: int
    pairs: int
    method: str
    rate: Rate | None = None
    within: tuple[float, float] | None = None
    alone_error: float = 0.0

    @property
    def error(self) -> float:
        return float(np.sqrt((self.influence**2).sum()))


def sides(member: NDArray[np.bool_], cluster: NDArray[np.object_] | None) -> MemberSides:
    """Sides of units whose owners have names; None: each unit is its own."""
    count = len(member)
    owner = np.arange(count) if cluster is None else np.unique(cluster.astype(str), return_inverse=True)[1]
    return MemberSides(member=np.asarray(member, dtype=bool), owner=owner)


def auc_number(score: Floats, of: MemberSides) -> Number:
    """AUC with DeLong's influences (doi:10.2307/2531595), summed by owner (doi:10.2307/2533958).

    Args:
        score: ``[N]``.
        of: the units' sides.

    Raises:
        Underpowered: members or held-out of fewer than 2 owners.
    """
    _two_owners(of)
    member = of.member
    placed = placements(score[member], score[~member])
    value = float(placed.member.mean())
    return _number(
        value,
        placed.member - value,
        placed.held_out - value,
        of,
        method="DeLong" if of.alone else f"DeLong summed by {of.owners} users",
    )


def tpr_number(score: Floats, of: MemberSides, fpr: float) -> Number:
    """Share of members above the score that at most a share ``fpr`` of held-out units pass (ties do not pass).

    That the threshold is estimated too is in the influence of the held-out units: the ROC curve's slope there times how
    often they pass.

    Args:
        score: ``[N]``.
        of: the units' sides.
        fpr: in (0, 1).

    Raises:
        Underpowered: fewer than ``10 / fpr`` held-out units; fewer than 2 owners on a side.
    """
    in_range(0, 1, fpr=fpr)
    _two_owners(of)
    member = of.member
    x, y = np.sort(score[member]), np.sort(score[~member])[::-1]
    need_for_fpr(len(y), fpr)
    passing = math.floor(fpr * len(y) + 1e-9)
    threshold = y[passing] if passing < len(y) else -np.inf
    caught = score[member] > threshold
    value = float(caught.mean())
    passed = (score[~member] > threshold).astype(np.float64)
    reach = SLOPE * math.sqrt(fpr * (1 - fpr) / len(y))
    slope = _slope(x, y, max(fpr - reach, 0.0), min(fpr + reach, 1.0))
    smoothed = (value * len(x) + 0.5) / (len(x) + 1)
    deviation: Floats = np.asarray(caught - value, dtype=np.float64)
    spread = float((deviation**2).mean())
    if spread > 0:
        deviation = np.asarray(deviation * math.sqrt(smoothed * (1 - smoothed) / spread))
    else:  # no or all members caught: hits have no spread of their own, but half a hit has; owners count as one each
        deviation = np.asarray(math.sqrt(smoothed * (1 - smoothed)) * _signs(of.owner[member]))
    share = passed - passed.mean()
    number = _number(
        value, deviation, -slope * share, of, method="Wilson, with the threshold's doubt along the ROC curve"
    )
    own_part = _clustered(deviation, of.owner[member], of)
    passing_part = _clustered(share, of.owner[~member], of)
    apart = own_part + slope**2 * passing_part  # 0 where all owners agree
    rate = Rate(
        members=_effective(smoothed * (1 - smoothed), own_part, of, member),
        held_out=_effective(fpr * (1 - fpr), passing_part, of, ~member),
        fpr=fpr,
        caught=partial(_caught, x, y),
        kept=number.error**2 / apart if apart > 0 else 1.0,
    )
    return replace(number, rate=rate, freedom=float(min(of.count(member), of.count(~member)) - 1))


def mean_of_halves(
    first: Number, second: Number, owners: tuple[NDArray[np.intp], NDArray[np.intp]], total: int
) -> Number:
    """The mean of what two halves gave, each judged by what was learned on the other.

    The standard errors are averaged, as if the halves' errors were one: a chance pattern that both halves share lifts
    both. Where they are independent the interval is wider than need be.

    Args:
        first, second: of the halves.
        owners: numbers of each half's owners among all, ``total`` of them.
        total: owners of the level.
    """
    influence = np.zeros(total)
    for number, place in zip((first, second), owners, strict=True):
        influence[place] += number.influence / 2
    error = (first.error + second.error) / 2
    length = float(np.sqrt((influence**2).sum()))
    return Number(
        value=(first.value + second.value) / 2,
        influence=influence * (error / length) if length > 0 else influence,
        freedom=min(first.freedom, second.freedom),
        n=first.n + second.n,
        pairs=min(first.pairs, second.pairs),
        method=f"mean over 2 halves, each judged by what was learned on the other; {first.method}",
        rate=None if first.rate is None or second.rate is None else _of_halves(first.rate, second.rate),
        alone_error=(first.alone_error + second.alone_error) / 2,
    )


def difference(after: Number, before: Number) -> Number:
    """``after - before`` of the same units and owners: what both share in error falls away."""
    return Number(
        value=after.value - before.value,
        influence=after.influence - before.influence,
        freedom=min(after.freedom, before.freedom),
        n=after.n,
        pairs=after.pairs,
        method=f"paired difference, {after.method}",
        within=(-1.0, 1.0) if after.within is None else (-math.inf, math.inf),
    )


def mean_number(values: Floats) -> Number:
    """The mean of independent units' values."""
    count = len(values)
    if count < 2:
        raise Underpowered(f"{count} units", "their spread cannot be told", "Use at least two.")
    mean = float(values.mean())
    influence = (values - mean) / math.sqrt(count * (count - 1))
    return Number(
        value=mean,
        influence=influence,
        freedom=count - 1.0,
        n=count,
        pairs=count,
        method="mean",
        within=(-math.inf, math.inf),
        alone_error=float(np.sqrt((influence**2).sum())),
    )


def together(numbers: Sequence[Number], *, confidence: float, plain: float = 0.95, seed: int = 0) -> list[Estimate]:
    """An estimate for each number: its interval holds together with those of all others with ``confidence``.

    ``Estimate.alone`` is the interval of the number by itself at ``plain``: narrower, and not to be picked from.

    Args:
        numbers: of the same owners.
        confidence: that all intervals hold.
        plain: coverage of each by itself.
        seed: of the multipliers.
    """
    if not numbers:
        return []
    single = confidence
    moving = [number for number in numbers if number.error > 0]
    if len(numbers) > 1 and moving:
        limit = float(np.quantile(largest(moving, draws=DRAWS, seed=seed), confidence))
        single = max(confidence, 1 - 2 * float(norm.sf(limit)))
    note = f"; one of {len(numbers)} intervals of this level that hold together (max-T)" if len(numbers) > 1 else ""
    joined = []
    for number in numbers:
        shown, alone = _interval(number, single), _interval(number, plain)
        joined.append(replace(shown, method=shown.method + note, alone=(alone.lo, alone.hi)))
    return joined


def design_effect(number: Number) -> float:
    """How many times more units are needed than if they were independent: at least 1."""
    if number.alone_error <= 0:
        return 1.0
    return max(1.0, (number.error / number.alone_error) ** 2)


def _interval(number: Number, confidence: float) -> Estimate:
    still = number.error < 1e-12
    if number.within is not None:
        return _plain(number, number.within, confidence)
    if number.rate is None and (still or number.value in (0.0, 1.0)):
        return without_variance(number.value, pairs=number.pairs, n=number.n, confidence=confidence)
    if number.rate is not None:
        lo, hi = _of_rate(number, number.rate, confidence)
        method = number.method
    else:
        lo, hi = logit_interval(number.value, number.error, freedom=number.freedom, confidence=confidence)
        method = f"{number.method}, logit scale, Student t"
    return Estimate(value=number.value, lo=lo, hi=hi, n=number.n, method=method, confidence=confidence)


def _plain(number: Number, within: tuple[float, float], confidence: float) -> Estimate:
    """Symmetric, by Student's t. Where all units moved alike it is as wide as Hoeffding's over disjoint pairs."""
    half = float(student.ppf((1 + confidence) / 2, number.freedom)) * number.error
    if number.error < 1e-12 and number.value != 0:
        half = math.sqrt(math.log(2 / (1 - confidence)) / (2 * number.pairs)) if math.isfinite(within[1]) else math.inf
    lo, hi = max(within[0], number.value - half), min(within[1], number.value + half)
    method = f"{number.method}, Student t"
    return Estimate(value=number.value, lo=lo, hi=hi, n=number.n, method=method, confidence=confidence)


def _of_rate(number: Number, rate: Rate, confidence: float) -> tuple[float, float]:
    """Wilson's interval of the hits, and how many held-out units may pass the true threshold, carried along the ROC
    curve; their distances from the rate are combined (Zou and Donner, doi:10.1002/sim.3095), so it is not symmetric."""
    z = float(student.ppf((1 + confidence) / 2, number.freedom))
    value = number.value
    hits = _wilson(value, rate.members, z)
    passing = _passing(rate.fpr, rate.held_out, z)
    along = min(rate.caught(passing[0]), value), max(rate.caught(passing[1]), value)
    below = math.hypot(value - min(hits[0], value), value - along[0]) * math.sqrt(rate.kept)
    above = math.hypot(max(hits[1], value) - value, along[1] - value) * math.sqrt(rate.kept)
    return max(0.0, value - below), min(1.0, value + above)


def _wilson(share: float, size: float, z: float) -> tuple[float, float]:
    """Wilson's interval (doi:10.2307/2276774)."""
    middle = (share * size + z * z / 2) / (size + z * z)
    half = z / (size + z * z) * math.sqrt(size * share * (1 - share) + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _passing(fpr: float, size: float, z: float) -> tuple[float, float]:
    """Share of ``size`` units above the threshold that each passes with probability ``fpr``: binomial quantiles with
    their skewness (Cornish and Fisher), since sizes need not be whole. Where so few count that their series breaks down
    neither side gets less than half of what it would have without skewness."""
    spread = math.sqrt(fpr * (1 - fpr) / size)
    skew = (1 - 2 * fpr) / math.sqrt(size * fpr * (1 - fpr))
    shift = max(-z / 2, min((z * z - 1) * skew / 6, z / 2))
    return max(0.0, fpr - (z - shift) * spread), min(1.0, fpr + (z + shift) * spread)


def _of_halves(first: Rate, second: Rate) -> Rate:
    """Of the mean of two halves whose errors may be one: of each half's size, so that no half vouches for the other."""
    return Rate(
        members=(first.members + second.members) / 2,
        held_out=(first.held_out + second.held_out) / 2,
        fpr=first.fpr,
        caught=lambda fpr: (first.caught(fpr) + second.caught(fpr)) / 2,
        kept=max(first.kept, second.kept),
    )


def _clustered(deviation: Floats, owner: NDArray[np.intp], of: MemberSides) -> float:
    """Variance of the mean of a side's deviations, owners' units added up."""
    count = len(np.unique(owner))
    sums = np.bincount(owner, weights=deviation, minlength=of.owners) / len(deviation)
    return count / (count - 1) * float((sums**2).sum())


def _effective(unit_variance: float, variance: float, of: MemberSides, side: NDArray[np.bool_]) -> float:
    """How many independent units, each of ``unit_variance``, have a mean of this ``variance``; where all owners agree,
    which says nothing of their spread, one for each owner."""
    if variance < 1e-9 * unit_variance / len(side):
        return float(of.count(side))
    return min(unit_variance / variance, float(side.sum()))


def _number(value: float, of_members: Floats, of_held_out: Floats, of: MemberSides, *, method: str) -> Number:
    """From the deviations of members and of held-out units, whose means are what is estimated."""
    parts, freedoms, squares = [], [], 0.0
    for deviation, which in ((of_members, of.member), (of_held_out, ~of.member)):
        owner, count = of.owner[which], of.count(which)
        share = np.bincount(owner, weights=deviation, minlength=of.owners) / len(deviation)
        parts.append(share * math.sqrt(count / (count - 1)))
        freedoms.append(count - 1.0)
        squares += float((deviation**2).sum()) / (len(deviation) * max(len(deviation) - 1, 1))
    variances = [float((part**2).sum()) for part in parts]
    freedom = min(freedoms)
    if sum(variances) > 0:
        terms = sum(variance**2 / of_it for variance, of_it in zip(variances, freedoms, strict=True))
        freedom = min(of.owners - 1.0, sum(variances) ** 2 / terms)
    return Number(
        value=value,
        influence=parts[0] + parts[1],
        freedom=freedom,
        n=len(of_members) + len(of_held_out),
        pairs=of.pairs,
        method=method,
        alone_error=math.sqrt(squares),
    )


def _slope(x: Floats, y: Floats, low: float, high: float) -> float:
    """Slope of the ROC curve between two false positive rates; ``x`` rising, ``y`` falling."""
    return (_caught(x, y, high) - _caught(x, y, low)) / (high - low)


def _caught(x: Floats, y: Floats, fpr: float) -> float:
    """TPR where a share ``fpr`` of held-out units passes, between the steps of the curve."""
    place = fpr * len(y)
    below = min(math.floor(place), len(y))
    rates = [
        (len(x) - float(np.searchsorted(x, y[at], side="right"))) / len(x) if at < len(y) else 1.0
        for at in (below, below + 1)
    ]
    return rates[0] + (place - below) * (rates[1] - rates[0])


def _signs(owner: NDArray[np.intp]) -> Floats:
    """One sign an owner, as many of either."""
    return np.where(np.unique(owner, return_inverse=True)[1] % 2, -1.0, 1.0)


def _two_owners(of: MemberSides) -> None:
    for name, which in (("members", of.member), ("held-out units", ~of.member)):
        if of.count(which) < 2:
            raise Underpowered(f"{name} of {of.count(which)} users", "their spread cannot be told", "Use more users.")
