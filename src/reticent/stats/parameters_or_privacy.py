# SPDX-License-Identifier: Apache-2.0
"""Parameters or privacy: membership inference on over-parameterised linear regression, where it has a closed form.

Setting of "Parameters or Privacy: A Provable Tradeoff Between Overparameterization and Membership Inference" (Tan,
Mason, Javadi, Baraniuk; NeurIPS 2022, arXiv:2202.01243), derived anew here: ``d`` standard normal features, target
``y = x·β + sigma·ε`` with ``β ~ N(0, I/d)``, so the signal has variance 1. A model with ``p ≤ d`` parameters sees the
first p features of ``n < p`` examples and takes the shortest weights that fit them (or ridge regression's). The other
features act as further noise, of variance ``s² = sigma² + (d - p) / d`` in all. The attacker sees the prediction for an
example and not its target.

Member: the model says the target itself, so ``sigma_1² = p/d + s² = 1 + sigma²``.

Held out: with ``P`` the projection on the n examples, the prediction ``x·(Pβ + X⁺e)`` has variance
``E[x·P·x]/d + s²·E[x·(XᵀX)⁺·x]``. By rotation ``E[P] = (n/p)·I`` and, from the mean of an inverse Wishart matrix,
``E[(XᵀX)⁺] = n / (p(p-n-1))·I``, so ``sigma_0² = n/d + n·s² / (p-n-1)``.

Both are sums of many terms, close to Gaussian. More parameters: ``sigma_0`` falls, ``sigma_1`` stays, and the attacker
gains. It is a known answer to hold attacks against, not a statement about language models.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from reticent.core.errors import BadInput
from reticent.core.validate import non_negative, positive

_NODES = 2000
"""Of the integral over eigenvalues; the midpoint rule converges exponentially, so they are plenty."""


class PredictionSpread(NamedTuple):
    """Standard deviations of the model's predictions, which have mean 0."""

    member: float
    held_out: float


def advantage(n: int, p: int, sigma: float, *, d: int | None = None, ridge: float = 0.0) -> float:
    """Largest TPR - FPR of an attacker who sees one prediction of a model with ``p`` parameters; 0 to 1.

    Args:
        n: training examples.
        p: parameters, more than ``n + 1``.
        sigma: standard deviation of the noise; the signal's is 1.
        d: features that the target depends on, at least ``p``; None for ``p``.
        ridge: weight of the squared length of the weights in ``|y - Xw|² + ridge·|w|²``; 0 is the shortest fit.

    Raises:
        BadInput: not over-parameterised, or fewer features than parameters.
    """
    return gaussian_advantage(*spread(n, p, sigma, d=d, ridge=ridge))


def spread(n: int, p: int, sigma: float, *, d: int | None = None, ridge: float = 0.0) -> PredictionSpread:
    """Standard deviations of predictions for members and held-out examples; arguments as in `advantage`.

    Without ridge exact. With it the mean over the eigenvalues of ``XXᵀ`` is taken by the law of Marchenko and Pastur,
    exact as n and p grow: with ``k`` an eigenvalue and ``f = k / (k + ridge)``,
    ``sigma_1² = E[f²·(k/d + s²)]`` and ``sigma_0² = n·E[f²·(1/d + s²/k)]``.
    """
    positive(n=n)
    non_negative(sigma=sigma, ridge=ridge)
    d = p if d is None else d
    if not n + 1 < p <= d:
        raise BadInput(
            f"n={n}, p={p}, d={d}", "the closed form needs more parameters than examples", "Give n + 1 < p <= d."
        )
    noise = sigma**2 + (d - p) / d
    if ridge == 0:
        return PredictionSpread(math.sqrt(p / d + noise), math.sqrt(n / d + n * noise / (p - n - 1)))
    angle = (np.arange(_NODES) + 0.5) * math.pi / _NODES
    ratio = n / p
    eigenvalue = 1 + ratio + 2 * math.sqrt(ratio) * np.cos(angle)
    weight = 2 * np.sin(angle) ** 2 / (eigenvalue * _NODES)
    eigenvalue = eigenvalue * p
    shrinkage = (eigenvalue / (eigenvalue + ridge)) ** 2
    member = float((weight * shrinkage * (eigenvalue / d + noise)).sum())
    held_out = n * float((weight * shrinkage * (1 / d + noise / eigenvalue)).sum())
    return PredictionSpread(math.sqrt(member), math.sqrt(held_out))


def threshold(member: float, held_out: float) -> float:
    """The size of a prediction at which both groups are equally likely: where the likelihood-ratio test decides.

    ``t² = 2 ln(sigma_1/sigma_0)·sigma_0²·sigma_1² / (sigma_1² - sigma_0²)``, from equal densities. Above it the wider
    group is likelier.
    """
    positive(member=member, held_out=held_out)
    if member == held_out:
        return member  # the limit
    gap = (member - held_out) * (member + held_out)
    return math.sqrt(2 * math.log(member / held_out) / gap) * member * held_out


def gaussian_advantage(member: float, held_out: float) -> float:
    """Largest TPR - FPR between ``N(0, member²)`` and ``N(0, held_out²)``: ``2·[Φ(t/sigma_0) - Φ(t/sigma_1)]``.

    >>> round(gaussian_advantage(2.0, 1.0), 4)
    0.3227
    """
    t = threshold(member, held_out)
    return float(2 * abs(ndtr(t / held_out) - ndtr(t / member)))


def gaussian_auc(member: float, held_out: float) -> float:
    """AUC of the size of the prediction: ``(2/π)·arctan(sigma_1/sigma_0)``, as the ratio of two normals is Cauchy.

    >>> gaussian_auc(1.0, 1.0)
    0.5
    """
    positive(member=member, held_out=held_out)
    return 2 / math.pi * math.atan2(member, held_out)
