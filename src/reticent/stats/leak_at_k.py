# SPDX-License-Identifier: Apache-2.0
"""leak@k: how much is given away by the best of k samples (arXiv:2511.04934). Greedy decoding alone under-counts.

Two ways: exactly, from the probability ``q`` that one sample gives a secret away, which a single teacher-forced pass
tells for a text word for word; or from ``n`` samples, each with a degree of leakage, where any k of them could have
been the ones that an attacker drew. Higher leaks more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import positive
from reticent.stats.scores import Floats
from reticent.stats.user_bootstrap import mean_of_rows


def exact_leak(log_q: ArrayLike, k: int) -> Floats:
    """``1 - (1 - q)^k`` from ``log q``; broadcasts. Exact down to the smallest float64.

    Examples:
        >>> [f"{leak:.6g}" for leak in exact_leak(np.log([0.5, 1e-12]), 2)]
        ['0.75', '2e-12']
    """
    return np.exp(log_exact_leak(log_q, k))


def log_exact_leak(log_q: ArrayLike, k: int) -> Floats:
    """Logarithm of `exact_leak`, for probabilities that float64 does not hold, such as those of long texts.

    Args:
        log_q: natural log-probability that one sample gives the secret away; at most 0.
        k: samples.

    Raises:
        BadInput: k below 1, NaN, or a log-probability above 0.

    Examples:
        >>> round(float(log_exact_leak(-2000.0, 1024)), 6)
        -1993.068528
    """
    _whole(k)
    log_p = np.minimum(_log_probabilities(log_q), 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        spared = _log1mexp(log_p)  # log of 1 - q; -inf where q is 1
        # log of -k·log(1 - q); for tiny q that is log(k·q), which must not be formed from q
        tiny = log_p < -30
        log_rate = np.log(k) + np.where(tiny, log_p, np.log(-np.where(tiny, -1.0, spared)))
        some = np.where(log_rate < -30, log_rate, _log1mexp(-np.exp(np.maximum(log_rate, -30))))
    return np.asarray(np.where(log_p == 0, 0.0, some), dtype=np.float64)


def leak_at_k(samples: ArrayLike, k: int) -> Floats:
    """Expected largest leakage among k samples, unbiased, from n ≥ k samples a prompt.

    ``Σ_j C(j-1, k-1) / C(n, k) · s_(j)`` over the sorted samples: the mean of the maximum over all choices of k of
    them. With n = k it is the plain maximum; a mean over maxima of k out of n samples with replacement would be too
    low.

    Args:
        samples: ``[prompts, n]`` or ``[n]`` degrees of leakage, such as ROUGE-L recall, or hits (0 or 1).
        k: at least 1, at most n.

    Returns:
        ``[prompts]``, or a scalar array for one prompt.

    Raises:
        BadInput: NaN, or a k that is none.
        Underpowered: fewer samples than k.

    Examples:
        >>> [round(float(leak_at_k([0, 0, 0, 1, 1], k)), 6) for k in (1, 2, 5)]
        [0.4, 0.7, 1.0]
    """
    _whole(k)
    x = np.asarray(samples, dtype=np.float64)
    if x.ndim not in (1, 2) or not x.size:
        raise BadInput(f"samples of shape {x.shape}", "are no [prompts, n] numbers", "Give n samples for each prompt.")
    if np.isnan(x).any():
        raise BadInput("samples", "hold NaN", "Give a degree of leakage for every sample.")
    n = x.shape[-1]
    if k > n:
        raise Underpowered(f"{n} samples a prompt", f"do not show the best of {k}", f"Draw at least {k} of each.")
    place = np.arange(k, n + 1)
    log_weight = _log_choose(place - 1, k - 1) - _log_choose(np.array(n), k)
    weight = np.exp(log_weight)
    return np.asarray(np.sort(x, axis=-1)[..., k - 1 :] @ (weight / weight.sum()), dtype=np.float64)


def mean_leak_at_k(
    samples: ArrayLike, k: int, users: ArrayLike | None = None, *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean of `leak_at_k` over prompts, with the interval over prompts, or over users where prompts belong to users.

    Args:
        samples: ``[prompts, n]`` degrees of leakage in [0, 1].
        k: in 1 to n.
        users: ``[prompts]`` whose each is; None where prompts are independent.
        confidence: two-sided coverage.
        seed: of the resampling of users.

    Raises:
        BadInput: NaN, degrees outside of [0, 1], or users of another length.
        Underpowered: fewer samples than k, or prompts of a single user.

    Examples:
        >>> print(mean_leak_at_k([[0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], 2))
        0.583 [0.000, 1.000], n=4
    """
    x = np.asarray(samples, dtype=np.float64)
    if x.ndim != 2:
        raise BadInput(f"samples of shape {x.shape}", "are no [prompts, n] numbers", "Give n samples for each prompt.")
    leaked = leak_at_k(x, k)
    if (x < 0).any() or (x > 1).any():
        raise BadInput("samples", "some lie outside [0, 1]", "Give shares or hits.")
    return mean_of_rows(leaked, users, confidence=confidence, seed=seed)


def _log_choose(n: Floats, k: int) -> Floats:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))


def _log1mexp(x: Floats) -> Floats:
    """``log(1 - exp(x))`` for x < 0 (Mächler, 2012)."""
    near = x > -np.log(2)
    return np.where(near, np.log(-np.expm1(np.where(near, x, -1.0))), np.log1p(-np.exp(np.where(near, -1.0, x))))


def _log_probabilities(log_q: ArrayLike) -> Floats:
    x = np.asarray(log_q, dtype=np.float64)
    if np.isnan(x).any() or (x > 1e-9).any():
        raise BadInput("log_q", "is no log-probability", "Give numbers of at most 0.")
    return x


def _whole(k: int) -> None:
    positive(k=k)
    if k != int(k):
        raise BadInput(f"k={k!r}", "is no whole number", "Give a number of samples.")
