# SPDX-License-Identifier: Apache-2.0
"""Exposure: how many bits of a planted secret the model gives away, against secrets of the same form never planted.

Direction: inputs are NLLs or perplexities, where *lower* means more memorized; the exposure in bits is *higher* when
more leaks. A secret that the model has not seen has a median exposure of 1 bit.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.polynomial.laguerre import laggauss
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr
from scipy.stats import kstest, skewnorm

from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range
from reticent.stats.intervals import clopper_pearson_lower, clopper_pearson_upper, quantile_order
from reticent.stats.scores import Floats, as_scores

FEWEST_TO_FIT = 100
"""References below which three fitted parameters say nothing about a tail."""
MISFIT = 0.01
"""A Kolmogorov-Smirnov p-value below this, and the references are not taken for skew-normal. With parameters that were
fitted to the same values the test is lenient: what it rejects is far off."""


def ceiling(n_reference: int) -> float:
    """Largest rank exposure that ``n_reference`` references can show, in bits: ``log2(n_reference + 1)``."""
    return math.log2(n_reference + 1)


def ranks(canary: ArrayLike, reference: ArrayLike) -> NDArray[np.int64]:
    """Rank of each planted secret among itself and the references: 1 = likeliest of all; ties count against it.

    Args:
        canary: ``[C]`` NLL (nats) or perplexity of the planted secrets.
        reference: ``[R]`` the same quantity of secrets of the same form that were never planted.
    """
    c, r = as_scores(canary, name="canary"), np.sort(as_scores(reference, name="reference"))
    return 1 + np.searchsorted(r, c, side="right").astype(np.int64)


def rank_exposure(canary: ArrayLike, reference: ArrayLike) -> Floats:
    """``[C]`` exposures in bits: ``log2 |R| - log2 rank``, |R| = references + the secret; from 0 to `ceiling`.

    Source: The Secret Sharer, arXiv:1802.08232.

    Examples:
        >>> rank_exposure([0.1, 9.0], reference=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).tolist()
        [3.0, 0.0]
    """
    return ceiling(len(as_scores(reference, name="reference"))) - np.log2(ranks(canary, reference))


def exposure(canary: ArrayLike, reference: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Median rank exposure of the planted secrets of one tier, in bits.

    The interval is for the median of ``-log2 P(a reference is at least as likely as the secret)`` over *all secrets so
    planted*: order statistics of the secrets, and Clopper-Pearson on the ranks at both ends. Fewer than 6 secrets (at
    95 %) cannot enclose that median, whatever they show: the interval then runs from 0 to infinity and ``method`` says
    so. Whether so few show anything at all is what `reticent.stats.rank_test` answers. ``hi`` is also infinite when the
    secret at the upper end outranks all references: more than `ceiling` bits cannot be told from rank alone.

    Args:
        canary: ``[C]`` NLL or perplexity of secrets planted equally often, drawn independently.
        reference: ``[R]`` of secrets of the same form, drawn independently, never planted.
        confidence: two-sided coverage, at least.
    """
    in_range(0, 1, confidence=confidence)
    n, bits = len(as_scores(reference, name="reference")), rank_exposure(canary, reference)
    places = median_places(len(bits), confidence)
    lo, hi = 0.0, math.inf
    if places is None:
        few = f"{len(bits)} secret{'s' * (len(bits) > 1)}"
        meaning = f"{few} cannot enclose the median over all so planted ({fewest_for_median(confidence)} can)"
    else:
        meaning = places.meaning
        beaten_by = np.sort(ranks(canary, reference) - 1)  # smallest first = most exposed first
        weakest, strongest = int(beaten_by[places.weakest]), int(beaten_by[places.strongest])
        lo = max(0.0, -math.log2(float(clopper_pearson_upper(weakest, n, places.miss / 2))))
        if strongest:
            hi = -math.log2(float(clopper_pearson_lower(strongest, n, places.miss / 2)))
    return Estimate(
        value=float(np.median(bits)),
        lo=lo,
        hi=hi,
        n=len(bits),
        method=f"rank among {n} references, Clopper-Pearson; {meaning}",
        confidence=confidence,
        unit="bits",
    )


class OrderBounds(NamedTuple):
    """Ranks of the secrets (0 = most exposed) that enclose the median, and the error left for other sources."""

    strongest: int
    weakest: int
    miss: float
    """Probability of a miss still to be spent."""
    meaning: str


ORDER = 0.8
"""Of the allowed misses, the part that goes to which secrets enclose the median; the rest goes to their ranks."""


@functools.lru_cache(maxsize=256)
def median_places(n: int, confidence: float) -> OrderBounds | None:
    """Places that enclose the median over all secrets so planted; None where n secrets cannot (`fewest_for_median`)."""
    miss = 1 - confidence
    order = quantile_order(n, 0.5, ORDER * miss)
    if order.below < 0 or order.above >= n:
        return None
    return OrderBounds(order.below, order.above, miss - order.miss, f"median over secrets by order statistics of {n}")


@functools.lru_cache(maxsize=256)
def fewest_for_median(confidence: float) -> int:
    """How many secrets enclose the median over all secrets so planted.

    >>> fewest_for_median(0.95)
    6
    """
    in_range(0, 1, confidence=confidence)
    n = 1
    while median_places(n, confidence) is None:
        n += 1
    return n


def own_places(n: int, confidence: float) -> OrderBounds:
    """Places of the median of these n secrets themselves, which say nothing of others that were so planted."""
    meaning = "this secret only" if n == 1 else f"median of these {n} secrets only"
    return OrderBounds((n - 1) // 2, n // 2, 1 - confidence, meaning)


def own_exposure_at_least(bits: ArrayLike, n_reference: int, *, confidence: float = 0.95) -> float:
    """Lower end of the median exposure of these secrets themselves, in bits: only the references are a sample.

    For secrets that a test has already found to be learned, and too few to enclose the median over all so planted. By
    itself it is no ground to claim leakage: a secret that the model never saw has more than 1 bit half of the time.

    Args:
        bits: ``[C]`` of `rank_exposure`.
        n_reference: references that they were ranked among.
        confidence: as of an interval with two ends.

    >>> round(own_exposure_at_least([8.0, 7.0, 3.0], 255), 1)
    5.5
    """
    in_range(0, 1, confidence=confidence)
    beaten_by = np.sort(np.rint((n_reference + 1) / np.exp2(as_scores(bits, name="bits")) - 1).astype(np.int64))
    places = own_places(len(beaten_by), confidence)
    weakest = int(beaten_by[places.weakest])
    return max(0.0, -math.log2(float(clopper_pearson_upper(weakest, n_reference, places.miss / 2))))


class SkewNormal(NamedTuple):
    """Parameters as scipy.stats.skewnorm names them."""

    a: float
    loc: float
    scale: float


def skew_normal_exposure(
    canary: ArrayLike, reference: ArrayLike, *, n_boot: int = 100, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """Median of ``-log2 F(secret)`` in bits, F a skew-normal fitted to the references.

    Extrapolates beyond `ceiling`, and is only as good as the skew-normal shape far outside the references: show it
    beside `exposure`, never alone. The interval is a bootstrap of the fit (and from 6 secrets on, order statistics
    of the secrets; with fewer it speaks of these secrets only, as ``method`` says). It is approximate (with 300
    references, one secret 7 bits out and 100 fits it missed 9 % where 5 % were nominal) and does not cover a wrong
    shape.

    Args:
        canary: ``[C]`` perplexity or NLL of secrets planted equally often; finite.
        reference: ``[R]`` the same quantity of at least 100 secrets never planted; finite, not all equal.
        n_boot: bootstrap fits.
        seed: of the bootstrap.
        confidence: two-sided.

    Raises:
        BadInput: infinite values, references without spread, or references that no skew-normal fits (`MISFIT`).
        Underpowered: fewer than 100 references.

    Source: arXiv:2205.12506 (its code gives 0 bits where F underflows; here log F is computed in the log domain).
    """
    in_range(0, 1, confidence=confidence)
    c, r = as_scores(canary, name="canary"), as_scores(reference, name="reference")
    if not np.isfinite(c).all():
        raise BadInput("canary", "some values are infinite", "Give finite NLLs or perplexities, or use `exposure`.")
    fitted = fit_skew_normal(r)
    _check_fit(r, fitted)
    bits = skew_normal_bits(c, fitted)
    places = median_places(len(bits), confidence) or own_places(len(bits), confidence)
    by_bits = np.argsort(-bits, kind="stable")
    ends = c[by_bits[[places.strongest, places.weakest]]]
    rng = np.random.default_rng(seed)
    fits = (fit_skew_normal(rng.choice(r, len(r)), start=fitted) for _ in range(n_boot))
    spread = np.array([skew_normal_bits(ends, fit) for fit in fits])
    lo, hi = np.quantile(spread[:, 1], places.miss / 2), np.quantile(spread[:, 0], 1 - places.miss / 2)
    value = float(np.median(bits))
    return Estimate(
        value=value,
        lo=min(value, float(lo)),
        hi=max(value, float(hi)),
        n=len(bits),
        method=f"skew-normal fitted to {len(r)} references, bootstrap of the fit; {places.meaning}",
        confidence=confidence,
        unit="bits",
    )


def _check_fit(reference: Floats, fitted: SkewNormal) -> None:
    p = kstest(reference, skewnorm(*fitted).cdf).pvalue
    if p < MISFIT:
        raise BadInput(
            f"{len(reference)} references",
            f"are not spread like a skew-normal (Kolmogorov-Smirnov p = {p:.2g}), so nothing beyond them can be said",
            "Use `exposure`.",
        )


def skew_normal_bits(values: ArrayLike, fitted: SkewNormal) -> Floats:
    """``-log2 F(values)`` in bits, finite for every finite value."""
    z = (np.asarray(values, dtype=np.float64) - fitted.loc) / fitted.scale
    return np.maximum(0.0, -log_skew_normal_cdf(z, fitted.a) / math.log(2))


def fit_skew_normal(values: ArrayLike, *, start: SkewNormal | None = None) -> SkewNormal:
    """Maximum likelihood by BFGS with the analytic gradient, from the moments or from ``start``.

    Raises:
        BadInput: infinite values or no spread.
        Underpowered: fewer than 100 values.
    """
    x = as_scores(values, name="reference")
    if len(x) < FEWEST_TO_FIT:
        raise Underpowered(f"{len(x)} references", "a tail cannot be fitted", f"Score at least {FEWEST_TO_FIT}.")
    if not np.isfinite(x).all():
        raise BadInput("reference", "some values are infinite", "Give finite NLLs or perplexities.")
    middle, sd = float(x.mean()), float(x.std())
    if sd <= 1e-12 * max(1.0, abs(middle)):
        raise BadInput("reference", "its values are all equal", "Score references that differ from each other.")
    z = (x - middle) / sd

    def loss(p: Floats) -> tuple[float, Floats]:
        a, loc, log_scale = p
        u = (z - loc) * math.exp(-log_scale)
        tail = log_ndtr(a * u)
        hazard = np.exp(-0.5 * (a * u) ** 2 - tail) / math.sqrt(2 * math.pi)
        d_u = u - a * hazard
        value = log_scale + float(np.mean(0.5 * u * u - tail))
        gradient = [-np.mean(u * hazard), -np.mean(d_u) * math.exp(-log_scale), 1.0 - np.mean(d_u * u)]
        return value, np.array(gradient)

    if start is None:
        first = _from_skewness(float(np.mean(z**3)))
    else:
        first = np.array([start.a, (start.loc - middle) / sd, math.log(start.scale / sd)])
    a, loc, log_scale = minimize(loss, first, jac=True, method="BFGS", options={"maxiter": 200}).x
    return SkewNormal(float(a), float(middle + sd * loc), float(sd * math.exp(log_scale)))


def log_skew_normal_cdf(z: ArrayLike, a: float) -> Floats:
    """``log F(z)`` of the standard skew-normal of shape ``a``, also where F underflows.

    ``F(z) = 2 ∫_0^∞ φ(z - s) Φ(a (z - s)) ds``. Far in the lower tail the integrand falls like an exponential with
    the slope of its logarithm at s = 0, which Gauss-Laguerre quadrature integrates to about 1e-10 in log F.
    """
    z = np.asarray(z, dtype=np.float64)
    with np.errstate(divide="ignore"):
        out = np.asarray(skewnorm.logcdf(z, a), dtype=np.float64)
    far = (z < 0) & ~(out > -200.0)
    if np.any(far):
        s, weight = laggauss(40)
        at = z[far]
        slope = -at + a * np.exp(-0.5 * (a * at) ** 2 - log_ndtr(a * at)) / math.sqrt(2 * math.pi)
        t = at[:, None] - s / slope[:, None]
        log_f = math.log(2) - 0.5 * math.log(2 * math.pi) - 0.5 * t**2 + log_ndtr(a * t)
        peak = log_f[:, :1]
        out[far] = peak[:, 0] - np.log(slope) + np.log((weight * np.exp(log_f - peak + s)).sum(axis=1))
    return out


def _from_skewness(skewness: float) -> Floats:
    """Parameters of the skew-normal of mean 0, variance 1 and this skewness (clipped to what the family can have)."""
    clipped = min(max(skewness, -0.95), 0.95)
    ratio = abs(clipped) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * ratio / (ratio + ((4 - math.pi) / 2) ** (2 / 3))), clipped)
    scale = 1 / math.sqrt(1 - 2 * delta**2 / math.pi)
    return np.array([delta / math.sqrt(1 - delta**2), -scale * delta * math.sqrt(2 / math.pi), math.log(scale)])
