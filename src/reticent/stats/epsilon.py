# SPDX-License-Identifier: Apache-2.0
"""Lower bounds on the ε of (ε, δ)-differential privacy from the scores of one audit.

A lower bound says "the privacy loss is at least this". It never certifies that it is not larger, and a bound of 0 means
"not detected". Every bound here is one-sided (``hi = inf``) and carries its unit, δ and neighbouring relation.

What each bound assumes:

=========================  =========================================================================================
function                   holds when
=========================  =========================================================================================
`epsilon_one_run`          every unit was included by its own fair coin; nothing else
`epsilon_gdp_one_run`      the same, and the mechanism is Gaussian (f-DP)
`epsilon_clopper_pearson`  scores are independent draws (many runs, or units that do not influence each other)
`epsilon_gdp_roc`          the same, and the mechanism is Gaussian
`epsilon_gdp_auc`          the same as for `epsilon_gdp_roc` (in `reticent.stats.epsilon_auc`)
=========================  =========================================================================================

Each holds at its own confidence: decide before looking which one counts, or correct for all that you look at
(`reticent.stats.hypothesis.family_confidence`). In one training run units may share their luck: noise that happens to
show much of one unit can show much of all of them. Bounds that take scores as independent are then too high far more
often than they say; the one-run bounds are not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri
from scipy.stats import binomtest

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, non_negative, one_of
from reticent.stats.intervals import clopper_pearson_lower, clopper_pearson_upper
from reticent.stats.one_run import gdp_one_run_mu, one_run_epsilon
from reticent.stats.scores import Floats, as_scores

UNITS = ("record", "user")


class Guesses(NamedTuple):
    """How an auditor that guesses on the most extreme scores did."""

    units: int
    """All units, guessed or not."""
    made: int
    correct: int


def epsilon_clopper_pearson(
    member: ArrayLike, held_out: ArrayLike, *, delta: float, unit: str, confidence: float = 0.95
) -> Estimate:
    """Lower bound on ε from error rates over many thresholds, corrected for having tried them all (Bonferroni).

    The thresholds are held-out scores of ranks that depend on the number of held-out units only (`threshold_ranks`),
    so neither the choice of the threshold nor the number tried makes the bound too high. Assumes that scores are
    independent draws: canaries in one training run that help or hinder each other are not.

    Args:
        member: ``[N_member]`` scores of the units that were trained on; higher = more likely a member.
        held_out: ``[N_held_out]`` scores of the units that were left out.
        delta: δ, in [0, 1); take the one of the guarantee that is audited, below 1 / number of units.
        unit: ``"record"`` or ``"user"``: what was added or left out.
        confidence: one-sided.

    Raises:
        BadInput: impossible δ, no scores, or NaN.

    Sources: arXiv:2006.07709, arXiv:2101.04535.

    Examples:
        >>> scores = np.arange(200.0)
        >>> bound = epsilon_clopper_pearson(scores + 150, scores, delta=1e-5, unit="record")
        >>> round(bound.lo, 2), bound.hi, bound.unit
        (3.02, inf, 'nats (δ = 1e-05, one record added or removed)')
    """
    rates = _rates_over_thresholds(member, held_out, confidence)
    bound = float(max(0.0, _epsilon_from_rates(rates, delta).max()))
    method = f"Clopper-Pearson over {len(rates.tpr_lower)} thresholds (Bonferroni); independent scores"
    return lower_bound(bound, rates.units, method, delta, unit, confidence)


def epsilon_one_run(
    member: ArrayLike,
    held_out: ArrayLike,
    *,
    delta: float,
    k_plus: int,
    k_minus: int,
    unit: str,
    confidence: float = 0.95,
) -> Estimate:
    """Lower bound on ε from one training run in which every unit was included by its own fair coin.

    Needs no independence of the scores. Args as in `epsilon_clopper_pearson`, and:

    Args:
        k_plus: how many of the highest scores are guessed "in", fixed before the scores are seen
            (`reticent.stats.one_run.guesses_a_side`).
        k_minus: how many of the lowest scores are guessed "out", fixed likewise. Trying several numbers of guesses and
            keeping the best bound breaks the confidence.

    Raises:
        BadInput: impossible δ or guesses, NaN, or group sizes that no fair coin gives.

    Source: Privacy Auditing with One (1) Training Run, arXiv:2305.08846.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> inside, outside = rng.normal(3, 1, 200), rng.normal(0, 1, 200)
        >>> bound = epsilon_one_run(inside, outside, delta=1e-5, k_plus=50, k_minus=50, unit="record")
        >>> round(bound.lo, 2), bound.unit
        (3.48, 'nats (δ = 1e-05, one record added or removed)')
    """
    guesses = count_guesses(member, held_out, k_plus=k_plus, k_minus=k_minus)
    bound = one_run_epsilon(guesses.units, guesses.made, guesses.correct, delta=delta, miss=1 - confidence)
    method = f"one-run audit, {guesses.correct} of {guesses.made} guesses right; independent fair coins"
    return lower_bound(bound, guesses.units, method, delta, unit, confidence)


def epsilon_gdp_one_run(
    member: ArrayLike,
    held_out: ArrayLike,
    *,
    delta: float,
    k_plus: int,
    k_minus: int,
    unit: str,
    confidence: float = 0.95,
) -> Estimate:
    """As `epsilon_one_run`, and tighter, for a mechanism whose trade-off curve is Gaussian (DP-SGD nearly so).

    ε is what the μ that cannot be rejected implies at ``delta``, which must be above 0.
    Source: Auditing f-Differential Privacy in One Run, arXiv:2410.22235.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> inside, outside = rng.normal(3, 1, 200), rng.normal(0, 1, 200)
        >>> bound = epsilon_gdp_one_run(inside, outside, delta=1e-5, k_plus=50, k_minus=50, unit="record")
        >>> round(bound.lo, 2)
        6.34
    """
    guesses = count_guesses(member, held_out, k_plus=k_plus, k_minus=k_minus)
    mu = gdp_one_run_mu(guesses.units, guesses.made, guesses.correct, miss=1 - confidence)
    method = f"one-run f-DP audit assuming Gaussian DP (mu >= {mu:.4g}); independent fair coins"
    return lower_bound(gdp_epsilon(mu, delta), guesses.units, method, delta, unit, confidence)


def epsilon_gdp_roc(
    member: ArrayLike, held_out: ArrayLike, *, delta: float, unit: str, confidence: float = 0.95
) -> Estimate:
    """Lower bound on ε from error rates at the thresholds of `epsilon_clopper_pearson`, assuming Gaussian DP.

    ``mu >= Φ⁻¹(1 − FPR) − Φ⁻¹(FNR)`` with the upper bounds of both error rates; ``delta`` must be above 0.
    Source: Tight Auditing of Differentially Private Machine Learning, arXiv:2302.07956.
    """
    rates = _rates_over_thresholds(member, held_out, confidence)
    mu = max(0.0, float((ndtri(1 - rates.fpr_upper) - ndtri(1 - rates.tpr_lower)).max()))
    method = (
        f"Clopper-Pearson over {len(rates.tpr_lower)} thresholds (Bonferroni), assuming Gaussian DP "
        f"(mu >= {mu:.4g}); independent scores"
    )
    return lower_bound(gdp_epsilon(mu, delta), rates.units, method, delta, unit, confidence)


def epsilon_at_threshold(
    true_positives: int, members: int, false_positives: int, held_out: int, *, delta: float, miss: float
) -> float:
    """Lower bound on ε from the two error counts at one threshold that was fixed before the scores were seen.

    Both directions, ``ln((TPR − δ) / FPR)`` and ``ln((TNR − δ) / FNR)``, from the same two Clopper-Pearson bounds
    at ``miss / 2`` each, so the larger of them still misses with probability at most ``miss``. 0 if nothing shows.
    For attacks whose threshold somebody else fixed; an audit, which has none, takes `epsilon_clopper_pearson`.

    >>> round(epsilon_at_threshold(500, 1000, 5, 1000, delta=1e-5, miss=0.05), 3)
    3.696
    """
    rates = _Rates(
        tpr_lower=np.atleast_1d(clopper_pearson_lower(true_positives, members, miss / 2)),
        fpr_upper=np.atleast_1d(clopper_pearson_upper(false_positives, held_out, miss / 2)),
        units=members + held_out,
    )
    return float(max(0.0, _epsilon_from_rates(rates, delta).max()))


def gdp_epsilon(mu: float, delta: float) -> float:
    """The ε of μ-Gaussian DP at ``delta``, 0 if ``delta`` covers μ alone.

    Source: Gaussian Differential Privacy, arXiv:1905.02383, Corollary 2.13.

    Examples:
        >>> round(gdp_epsilon(1.0, 1e-5), 2), gdp_epsilon(0.0, 1e-5)
        (4.38, 0.0)
    """
    in_range(0, 1, delta=delta)
    non_negative(mu=mu)
    if mu == 0:
        return 0.0

    def excess(epsilon: float) -> float:
        first, second = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
        return float(np.exp(first) * -np.expm1(min(0.0, second - first)) - delta)

    if excess(0.0) <= 0:
        return 0.0
    high = mu * (mu / 2 + max(0.0, float(-ndtri(delta)))) + 1.0  # here the first term alone is below delta
    return float(brentq(excess, 0.0, high, xtol=1e-12, rtol=1e-12))


def count_guesses(member: ArrayLike, held_out: ArrayLike, *, k_plus: int, k_minus: int) -> Guesses:
    """Guess "in" on the ``k_plus`` highest and "out" on the ``k_minus`` lowest scores; ties are counted as wrong first.

    Raises:
        BadInput: more guesses than units, or group sizes that independent fair coins give less than once in 10^6.
    """
    x, y = as_scores(member, name="member"), as_scores(held_out, name="held_out")
    units = len(x) + len(y)
    if not (k_plus >= 0 and k_minus >= 0 and 1 <= k_plus + k_minus <= units):
        raise BadInput(
            f"k_plus={k_plus}, k_minus={k_minus} for {units} units",
            "the guesses must be between 1 and the number of units",
            "Guess on a tenth of the units, say.",
        )
    if binomtest(len(x), units, 0.5).pvalue < 1e-6:
        raise BadInput(
            f"{len(x)} members and {len(y)} held-out units",
            "the one-run bound holds only when a fair coin decided each unit, and these sizes are no fair coins'",
            "Audit canaries that were planted by a coin of probability 1/2 each.",
        )
    scores = np.concatenate([x, y])
    is_member = np.arange(units) < len(x)
    top = np.lexsort((is_member, -scores))[:k_plus]  # within a tie the held-out come first: wrong guesses
    bottom = np.lexsort((~is_member, scores))[:k_minus]  # within a tie the members come first: wrong guesses
    correct = int(is_member[top].sum() + (~is_member[bottom]).sum())
    return Guesses(units=units, made=k_plus + k_minus, correct=correct)


def threshold_ranks(n_held_out: int) -> NDArray[np.int64]:
    """Ranks from the top (1 = highest) of the held-out scores that serve as thresholds: powers of 2 from both ends."""
    powers = 2 ** np.arange(n_held_out.bit_length())
    ranks = np.unique(np.concatenate([powers, n_held_out + 1 - powers]))
    return ranks[(ranks >= 1) & (ranks <= n_held_out)]


class _Rates(NamedTuple):
    """Bounds of the error rates at each threshold."""

    tpr_lower: Floats
    fpr_upper: Floats
    units: int


def _rates_over_thresholds(member: ArrayLike, held_out: ArrayLike, confidence: float) -> _Rates:
    """Bounds that hold at all thresholds together with probability ``confidence``.

    At the k-th highest held-out score the FPR is at most Beta(k, n - k + 1) distributed whatever the scores'
    distribution, and the Clopper-Pearson upper bound for k - 1 false positives is exactly the quantile of that Beta,
    so the bound stays exact although the threshold is one of the scores. Given the threshold, members are binomial.
    """
    in_range(0, 1, confidence=confidence)
    x, y = as_scores(member, name="member"), np.sort(as_scores(held_out, name="held_out"))[::-1]
    ranks = threshold_ranks(len(y))
    miss = (1 - confidence) / len(ranks) / 2
    caught = len(x) - np.searchsorted(np.sort(x), y[ranks - 1], side="right")
    return _Rates(
        tpr_lower=clopper_pearson_lower(caught, len(x), miss),
        fpr_upper=clopper_pearson_upper(ranks - 1, len(y), miss),
        units=len(x) + len(y),
    )


def _epsilon_from_rates(rates: _Rates, delta: float) -> Floats:
    """``max(ln((TPR − δ)/FPR), ln((TNR − δ)/FNR))`` at each threshold; -inf where δ explains everything."""
    _check_delta(delta)
    tpr, fpr = rates.tpr_lower, rates.fpr_upper
    with np.errstate(divide="ignore"):
        above = np.log(np.maximum(tpr - delta, 0.0)) - np.log(fpr)
        below = np.log(np.maximum(1 - fpr - delta, 0.0)) - np.log(1 - tpr)
    return np.maximum(above, below)


def _check_delta(delta: float) -> None:
    if not 0 <= delta < 1:
        raise BadInput(f"delta={delta!r}", "must be in [0, 1)", "Give the delta of the guarantee, e.g. 1e-5.")


def lower_bound(bound: float, n: int, method: str, delta: float, unit: str, confidence: float) -> Estimate:
    """A one-sided estimate of ε that says what it means: ``bound`` and above, at ``delta``, for one ``unit``."""
    one_of(UNITS, unit=unit)
    _check_delta(delta)
    return Estimate(
        value=bound,
        lo=bound,
        hi=math.inf,
        n=n,
        method=method,
        confidence=confidence,
        unit=f"nats (δ = {delta:g}, one {unit} added or removed)",
    )
