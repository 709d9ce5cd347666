# SPDX-License-Identifier: Apache-2.0
"""A lower bound on ε from the area under the ROC curve, for a Gaussian mechanism: sharper than any single threshold.

Under μ-Gaussian differential privacy no attack on one unit has an expected AUC above Φ(μ/√2), so an AUC that is certain
to be larger disproves μ. All scores enter, not only the most extreme ones, which is why it needs far fewer units than
the bounds of `reticent.stats.epsilon`. What it pays with is one more assumption, see `epsilon_gdp_auc`.
"""

from __future__ import annotations

import math

from numpy.typing import ArrayLike
from scipy.special import ndtri

from reticent.core.finding import Estimate
from reticent.core.validate import in_range
from reticent.stats.epsilon import gdp_epsilon, lower_bound
from reticent.stats.roc import auc

STRICTER = 0.8
"""Part of the allowed misses that DeLong's interval, which is asymptotic, is asked for: 4 % for 5 %. Asked for all of
them it was above the truth in up to 5.1 % of simulated runs where 5 % are allowed, and in .7 % where .56 % are."""


def epsilon_gdp_auc(
    member: ArrayLike,
    held_out: ArrayLike,
    *,
    delta: float,
    unit: str,
    pairs: bool = False,
    confidence: float = 0.95,
) -> Estimate:
    """Lower bound on ε from the lower end of the AUC, assuming Gaussian DP and scores that are independent draws.

    In one training run each unit is compared with others, not with itself left out. The expected AUC is then at most
    ``A + (A - 1/2) / held_out`` with ``A = Φ(μ/√2)``, whether or not units interact, and this is inverted. Interaction
    still matters: if all units share the luck of one noise, the AUC of *this* run lies further from the expected one
    than its interval says.

    Args:
        member: ``[N_member]`` scores of the units that were trained on; higher = more likely a member.
        held_out: ``[N_held_out]`` scores of the units that were left out.
        delta: δ, in (0, 1).
        unit: ``"record"`` or ``"user"``.
        pairs: take it that the two units compared may have shared their noise: by group privacy of 2 their order is
            then right with at most Φ(μ), so ``μ >= Φ⁻¹(AUC)``. A bound for whom the step from one unit to many is too
            much; smaller by a factor of √2 in μ.
        confidence: one-sided.

    Raises:
        BadInput: impossible δ, or NaN.
        Underpowered: fewer than 2 units in a group.

    Sources: arXiv:1905.02383 (Gaussian differential privacy), doi:10.2307/2531595 (DeLong).

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> bound = epsilon_gdp_auc(rng.normal(1, 1, 400), rng.normal(0, 1, 400), delta=1e-5, unit="record")
        >>> round(bound.lo, 2), bound.hi
        (3.58, inf)
    """
    in_range(0, 1, confidence=confidence, delta=delta)
    area = auc(member, held_out, confidence=1 - 2 * STRICTER * (1 - confidence))
    if pairs:
        mu = float(ndtri(area.lo))
    else:
        rest = 1 / len(held_out)  # type: ignore[arg-type]  # `auc` has checked that it is a vector
        mu = math.sqrt(2) * float(ndtri((area.lo + 0.5 * rest) / (1 + rest)))
    mu = max(0.0, mu)
    shared = "noise that two units may share; " if pairs else ""
    method = f"lower end of the AUC (DeLong), assuming Gaussian DP (mu >= {mu:.4g}); {shared}independent scores"
    return lower_bound(gdp_epsilon(mu, delta), area.n, method, delta, unit, confidence)
