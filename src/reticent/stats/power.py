# SPDX-License-Identifier: Apache-2.0
"""The smallest effect that an audit of a given size could have seen: what "not detected" is worth.

Both answers are for the intervals of `reticent.stats.roc` at a confidence that is already corrected for the number of
attacks (`reticent.stats.hypothesis.family_confidence`), and for independent units: count users, not their records,
where records of a user are alike.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import t as student

from reticent.core.errors import Underpowered
from reticent.core.validate import in_range
from reticent.stats.intervals import clopper_pearson_lower, quantile_order
from reticent.stats.roc import need_for_fpr


def smallest_auc(n_member: int, n_held_out: int, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Smallest AUC above 0.5 whose interval (`reticent.stats.roc.auc`) lies above 0.5 with probability ``power``.

    Solves ``logit(A) = (t_confidence + z_power) · se(A) / (A (1 − A))``, with the standard error of an AUC between
    exponential scores, ``Q1 = A / (2 − A)``, ``Q2 = 2 A² / (1 + A)``, which is near that of Gaussian ones.

    Raises:
        Underpowered: not even an AUC of 1 would be seen; says how many units are needed.

    Source: doi:10.1148/radiology.143.1.7063747.
    """
    in_range(0, 1, confidence=confidence, power=power)
    need = math.floor(math.log((1 - confidence) / 2) / math.log(0.5)) + 1  # Clopper-Pearson of k of k pairs above 0.5
    if min(n_member, n_held_out) < need:
        raise Underpowered(
            f"{n_member} members and {n_held_out} held-out units",
            f"at confidence {confidence:.4g} not even perfect separation would show",
            f"Use at least {need} of each.",
        )
    freedom = min(n_member, n_held_out) - 1
    wanted = float(student.ppf((1 + confidence) / 2, freedom) + ndtri(power))

    def missing(auc: float) -> float:
        variance = _auc_variance(auc, n_member, n_held_out)
        return math.log(auc / (1 - auc)) - wanted * math.sqrt(variance) / (auc * (1 - auc))

    grid = np.linspace(0.5, 1.0, 2001)[1:-1]
    seen = np.array([missing(float(a)) >= 0 for a in grid])
    if not seen.any():
        return 1.0
    first = int(np.argmax(seen))
    return float(grid[0] if first == 0 else brentq(missing, grid[first - 1], grid[first]))


def smallest_tpr(n_member: int, n_held_out: int, fpr: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Smallest TPR at FPR ``fpr`` whose interval (`reticent.stats.roc.tpr_at_fpr`) lies above ``fpr`` with ``power``.

    The interval judges members at a held-out score that is stricter than the asked FPR; how much TPR that costs depends
    on the ROC curve, for which that of two Gaussians of equal variance is taken. Closed form.

    Raises:
        Underpowered: fewer than ``10 / fpr`` held-out units, or too few members to show even a TPR of 1.
    """
    in_range(0, 1, fpr=fpr, confidence=confidence, power=power)
    need_for_fpr(n_held_out, fpr)
    miss = (1 - confidence) / 2
    hits = np.arange(1, n_member + 1)
    enough = np.flatnonzero(clopper_pearson_lower(hits, n_member, miss / 2) > fpr)
    above = quantile_order(n_held_out, 1 - fpr, miss).above
    if not len(enough) or above >= n_held_out:
        raise Underpowered(
            f"{n_member} members", f"not even a TPR of 1 would lie above FPR {fpr:g}", "Use more members."
        )
    needed = int(hits[enough[0]])
    strict_tpr = float(betaincinv(needed, n_member - needed + 1, power))
    strict_fpr = (n_held_out - above) / (n_held_out + 1)
    return float(ndtr(ndtri(strict_tpr) - ndtri(strict_fpr) + ndtri(fpr)))


def _auc_variance(auc: float, m: int, n: int) -> float:
    """Variance of the empirical AUC of m and n independent units with exponential scores."""
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    return (auc * (1 - auc) + (m - 1) * (q1 - auc * auc) + (n - 1) * (q2 - auc * auc)) / (m * n)
