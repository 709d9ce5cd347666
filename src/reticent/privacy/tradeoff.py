# SPDX-License-Identifier: Apache-2.0
"""The trade-off curve of a mechanism: how many members any attack can find at a given share of false alarms.

(ε, δ) is one line above that curve; privacy loss distributions give a line for every ε (Dong, Roth and Su 2022,
arXiv:1905.02383; Zhu, Dong and Wang 2022, arXiv:2106.08567). Let P be what training shows with the unit and Q without.
Where P(S) ≤ e^ε·Q(S) + δ and Q(S) ≤ e^ε·P(S) + δ' for all S, an attack with the false positive rate x finds at most

    min( e^ε·x + δ,  1 − e^−ε·(1 − δ' − x) )

Curves are kept as corners of the least concave polygon below finitely many such lines, so every number read off one is
an upper bound, whatever lines were left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri

from reticent.core import validate

Floats = npt.NDArray[np.float64]

LINES = 2000
"""On each side of the curve; more change nothing in the fourth digit."""
LEAST_DELTA = 1e-11
"""Lines with a smaller δ are rounding."""
LARGEST_EXPONENT = 700.0
"""e to a larger power is no float."""
PLOTTED, EXACT = 14, (1e-3, 0.01, 0.1)
"""Lines on each side that a curve is shown with, and false positive rates at which it is shown exactly."""
UP, SLIP = 1e6, 1e-9
"""Published numbers are rounded up to one over the first, after adding the second, which covers floating point."""


@dataclass(frozen=True, kw_only=True)
class AttackLimits:
    """The most that any attack can reach against a promise, on one unit that is in the data or is not.

    Args:
        auc: expected AUC, 0.5 to 1.
        tpr_at_1pct_fpr: share of members found where 1 % of the others are called members.
        tpr_at_10pct_fpr: the same at 10 %.
        mu: the smallest μ at which μ-Gaussian differential privacy allows all of this too, at every δ that is not below
            the promised one.
        roc: (false positive rate, most true positives): corners of a polygon on or above the curve, from 0 to 1.

    Raises:
        BadInput: numbers that are no rates.
    """

    auc: float
    tpr_at_1pct_fpr: float
    tpr_at_10pct_fpr: float
    mu: float
    roc: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        validate.in_range(
            0, 1, auc=self.auc, tpr_at_1pct_fpr=self.tpr_at_1pct_fpr, tpr_at_10pct_fpr=self.tpr_at_10pct_fpr
        )
        validate.non_negative(mu=self.mu)

    def tpr_at(self, fpr: float) -> float:
        """The most true positives at a false positive rate, by ``roc``.

        Examples:
            >>> of_promise(0.0, 0.0).tpr_at(0.25)
            0.25
        """
        fprs, tprs = zip(*self.roc, strict=True)
        return float(np.interp(fpr, fprs, tprs))


class Losses(NamedTuple):
    """A privacy loss distribution on one side: ``chances`` of rising ``losses``, and of an infinite one."""

    losses: Floats
    chances: Floats
    infinite: float

    def deltas(self, epsilons: Floats) -> Floats:
        """δ at each ε ≥ 0: the chance of a larger loss, less what the other side has of it.

        Chances below 0 are rounding of convolutions; taken as 0 they only add to δ.
        """
        start = int(np.searchsorted(self.losses, 0.0, side="right"))
        losses, chances = self.losses[start:], np.maximum(self.chances[start:], 0.0)
        here, there = (np.append(np.cumsum(mass[::-1])[::-1], 0.0) for mass in (chances, chances * np.exp(-losses)))
        first = np.searchsorted(losses, epsilons, side="right")
        grown = np.exp(np.minimum(epsilons, LARGEST_EXPONENT))
        return np.clip(self.infinite + here[first] - grown * there[first], self.infinite, 1.0)


@dataclass(frozen=True, eq=False)
class TradeoffCurve:
    """Corners of a concave polygon that no attack can be above: rising ``fpr`` and ``tpr`` from 0 to 1."""

    fpr: Floats
    tpr: Floats

    @property
    def auc(self) -> float:
        """The area below it."""
        return float(np.trapezoid(self.tpr, self.fpr))

    def tpr_at(self, fpr: float) -> float:
        """The most true positives at a false positive rate."""
        return float(np.interp(fpr, self.fpr, self.tpr))

    def deltas(self, epsilons: Floats) -> Floats:
        """The smallest δ at each ε ≥ 0 with which both directions of (ε, δ) hold: such a line touches at a corner."""
        deltas = np.zeros(len(epsilons))
        for i, grown in enumerate(np.exp(np.minimum(epsilons, LARGEST_EXPONENT))):
            removed = self.tpr - grown * self.fpr
            added = (1 - self.fpr) - grown * (1 - self.tpr)
            deltas[i] = max(removed.max(), added.max(), 0.0)
        return deltas

    def mu(self, delta: float) -> float:
        """The smallest μ of Gaussian differential privacy that allows all this at every δ from ``delta`` on.

        It must reach every corner of lines that steep, tpr ≤ Φ(Φ⁻¹(fpr) + μ), and where one of them ends at fpr = 0 or
        tpr = 1, have as large a δ at the largest of these ε.
        """
        most = self._epsilon(delta)
        steepest = math.exp(min(most, LARGEST_EXPONENT))
        runs, rises = np.diff(self.fpr), np.diff(self.tpr)
        lines = np.flatnonzero((rises <= steepest * runs) & (runs <= steepest * rises))
        if not len(lines):
            return _gaussian_mu(most, float(self.deltas(np.zeros(1))[0])) if most > 0 else 0.0
        corners = np.unique(np.concatenate([lines, lines + 1]))
        fpr, tpr = self.fpr[corners], self.tpr[corners]
        inside = (fpr > 0) & (tpr < 1)
        ends = np.where(tpr < 1, tpr, 1 - fpr)[~inside & (fpr < 1)]
        apart = ndtri(tpr[inside]) - ndtri(fpr[inside])
        return max(float(apart.max(initial=0.0)), _gaussian_mu(most, float(ends.max(initial=0.0))))

    def of_group(self, size: int) -> TradeoffCurve:
        """The curve of ``size`` units together: one after the other comes in (Dong, Roth and Su 2022, Theorem
        2.14), or by the lines (size·ε, δ·(e^size·ε − 1)/(e^ε − 1)) (Vadhan 2017, Lemma 2.2) where these are lower: at
        the ends of the curve.

        Corners are where the curve so far has one, and where it is as high as the next one has its own.
        """
        if size == 1:
            return self
        grown = self
        for _ in range(size - 1):
            corners = np.union1d(grown.fpr, np.interp(self.fpr, grown.tpr, grown.fpr))
            grown = TradeoffCurve(corners, np.interp(np.interp(corners, grown.fpr, grown.tpr), self.fpr, self.tpr))
            grown = grown._below_lines(np.linspace(0, len(corners) - 2, min(2 * LINES, len(corners) - 1)).astype(int))
        epsilons = np.linspace(0.0, self._epsilon(LEAST_DELTA), LINES)[1:]
        growth = (size - 1) * epsilons + np.log(np.expm1(-size * epsilons) / np.expm1(-epsilons))
        deltas = np.minimum(self.deltas(epsilons) * np.exp(np.minimum(growth, LARGEST_EXPONENT)), 1.0)
        lines = _both(size * epsilons, deltas, size * epsilons, deltas)
        return below(*(np.concatenate(pair) for pair in zip(grown._lines(), lines, strict=True)))

    def allowed(self, delta: float) -> AttackLimits:
        """The numbers that are published, rounded up; ``delta`` is the promised one."""
        shown = self._thinned()
        return AttackLimits(
            auc=min(_up(self.auc), 1.0),
            tpr_at_1pct_fpr=min(_up(self.tpr_at(0.01)), 1.0),
            tpr_at_10pct_fpr=min(_up(self.tpr_at(0.1)), 1.0),
            mu=_up(self.mu(delta)),
            roc=tuple(zip(shown.fpr.tolist(), shown.tpr.tolist(), strict=True)),
        )

    def _epsilon(self, delta: float) -> float:
        """An ε at which ``deltas`` is at most ``delta``, hardly above the smallest."""
        delta = delta * (1 + 1e-9) + 1e-15
        high = 1.0 if self.deltas(np.zeros(1))[0] > delta else 0.0
        while high < LARGEST_EXPONENT and self.deltas(np.array([high]))[0] > delta:
            high *= 2
        low = 0.0
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if self.deltas(np.array([middle]))[0] > delta else (low, middle)
        return high

    def _thinned(self) -> TradeoffCurve:
        """Fewer of the lines: those that are lowest at false positive rates, and false negative rates, of all sizes."""
        steepness = np.diff(self.tpr) - np.diff(self.fpr)
        middle = int(np.count_nonzero(steepness > 0))
        if len(self.fpr) <= 2 * PLOTTED or not 0 < middle < len(steepness):
            return self
        low = np.geomspace(1e-6, max(self.fpr[middle], 2e-6), PLOTTED)
        high = np.geomspace(1e-6, max(1 - self.tpr[middle], 2e-6), PLOTTED)
        places = np.concatenate([low, np.interp(1 - high, self.tpr, self.fpr), EXACT])
        return self._below_lines(np.unique(np.searchsorted(self.fpr, places) - 1).clip(0, len(steepness) - 1))

    def _below_lines(self, which: npt.NDArray[np.int64]) -> TradeoffCurve:
        """The polygon below some of the lines through neighbouring corners: no lower."""
        return below(*self._lines(which))

    def _lines(self, which: npt.NDArray[np.int64] | None = None) -> tuple[Floats, Floats]:
        """Slopes and intercepts of lines through neighbouring corners. Where these are so near to each other that a
        slope would be rounding, there is none."""
        which = np.arange(len(self.fpr) - 1) if which is None else which
        ends = np.minimum(self.fpr[1:], 1 - self.fpr[:-1])
        nearest = np.maximum(1e-7 * ends, np.where(self.fpr[1:] > 0.5, 1e-10, 0.0))
        which = which[(np.diff(self.fpr) > nearest)[which]]
        slopes = np.diff(self.tpr)[which] / np.diff(self.fpr)[which]
        return slopes, self.tpr[which] - slopes * self.fpr[which]


NOTHING_SHOWN = AttackLimits(auc=0.5, tpr_at_1pct_fpr=0.01, tpr_at_10pct_fpr=0.1, mu=0.0, roc=((0.0, 0.0), (1.0, 1.0)))
"""Of a training without a step: an attack can only guess."""


def of_losses(removed: Losses, added: Losses) -> TradeoffCurve:
    """The curve of a mechanism whose privacy losses are known.

    Args:
        removed: of what training shows with the unit, against without; each ε of it is dominated in truth.
        added: of what it shows without, against with.
    """
    lines = []
    for side in (removed, added):
        top = max(float(side.losses[-1]) if len(side.losses) else 0.0, 1e-3)
        epsilons = np.linspace(0.0, top, 64 * LINES)
        top = epsilons[
            min(int(np.count_nonzero(side.deltas(epsilons) > max(LEAST_DELTA, side.infinite))), 64 * LINES - 1)
        ]
        epsilons = np.linspace(0.0, float(top), LINES)
        lines.append((epsilons, side.deltas(epsilons)))
    return of_lines(*lines[0], *lines[1])


def of_gaussian(mu: float) -> TradeoffCurve:
    """The curve of μ-Gaussian differential privacy: at x, Φ(Φ⁻¹(x) + μ).

    >>> round(of_gaussian(1.0).tpr_at(0.5), 4)
    0.8413
    """
    top = mu * (mu / 2 + 7) + 1e-3
    epsilons = np.linspace(0.0, top, LINES)
    deltas = gaussian_deltas(mu, epsilons)
    return of_lines(epsilons, deltas, epsilons, deltas)


def of_promise(epsilon: float, delta: float) -> AttackLimits:
    """The limits on attacks by (ε, δ) alone, both directions: for a guarantee whose mechanism is not known (Kairouz, Oh
    and Viswanath 2015, Theorem 2.1)."""
    at, deltas = np.array([epsilon]), np.array([delta])
    return of_lines(at, deltas, at, deltas).allowed(max(delta, LEAST_DELTA))


def of_lines(removed: Floats, removed_deltas: Floats, added: Floats, added_deltas: Floats) -> TradeoffCurve:
    """The polygon below the lines of (ε, δ) in both directions; each array one ε ≥ 0 or its δ."""
    return below(*_both(removed, removed_deltas, added, added_deltas))


def _both(removed: Floats, removed_deltas: Floats, added: Floats, added_deltas: Floats) -> tuple[Floats, Floats]:
    """Slopes and intercepts of these lines."""
    steep, flat = (np.exp(np.minimum(epsilons, LARGEST_EXPONENT)) for epsilons in (removed, added))
    return np.concatenate([steep, 1 / flat]), np.concatenate([removed_deltas, 1 - (1 - added_deltas) / flat])


def below(slopes: Floats, intercepts: Floats) -> TradeoffCurve:
    """The least polygon on [0, 1] below lines and below 1, by going through them from steep to flat: a line is passed
    over if it is nowhere lowest."""
    order = np.lexsort((intercepts, -slopes))
    lowest: list[tuple[float, float]] = []
    corners: list[float] = []
    for slope, intercept in [*zip(slopes[order].tolist(), intercepts[order].tolist(), strict=True), (0.0, 1.0)]:
        if lowest and lowest[-1][0] == slope:
            continue
        while lowest:
            corner = (intercept - lowest[-1][1]) / (lowest[-1][0] - slope)
            if corner > (corners[-1] if corners else 0.0):
                corners.append(corner)
                break
            lowest.pop()
            if corners:
                corners.pop()
        lowest.append((slope, intercept))
    inside = [i for i, corner in enumerate(corners) if corner < 1]
    fpr = np.array([0.0, *(corners[i] for i in inside), 1.0])
    tpr = np.array([lowest[0][1], *(lowest[i + 1][0] * corners[i] + lowest[i + 1][1] for i in inside), 1.0])
    return TradeoffCurve(fpr, np.maximum.accumulate(tpr.clip(0.0, 1.0)))


def gaussian_deltas(mu: float, epsilons: Floats) -> Floats:
    """δ at each ε of μ-Gaussian differential privacy (Dong, Roth and Su 2022, Corollary 2.13).

    >>> gaussian_deltas(1.0, np.array([0.0])).round(4).tolist()
    [0.3829]
    """
    if mu == 0:
        return np.zeros(len(epsilons))
    first, second = log_ndtr(mu / 2 - epsilons / mu), epsilons + log_ndtr(-mu / 2 - epsilons / mu)
    deltas: Floats = np.exp(first) * -np.expm1(np.minimum(0.0, second - first))
    return deltas


def _gaussian_mu(epsilon: float, delta: float) -> float:
    """The μ at which μ-GDP is (epsilon, delta)-DP, rounded up; 0 where nothing is asked for."""
    low, high, at = 0.0, 1.0, np.array([epsilon])
    while delta > 0 and gaussian_deltas(high, at)[0] < delta:
        low, high = high, 2 * high
    while delta > 0 and high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_deltas(middle, at)[0] < delta else (low, middle)
    return high if delta > 0 else 0.0


def _up(value: float) -> float:
    return math.ceil((value + SLIP) * UP) / UP
