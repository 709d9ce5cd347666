# SPDX-License-Identifier: Apache-2.0
"""The smallest effect that an audit of a given size could have seen: what "not detected" is worth.

Both answers are for the intervals of `reticent.stats.roc` at a confidence that is already corrected for the number of
attacks (`reticent.stats.hypothesis.family_confidence`), and for independent units: count users, not their records,
where records of a user are alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv, logit, ndtr, ndtri, owens_t
from scipy.stats import t as student

from reticent.core.errors import Underpowered
from reticent.core.validate import in_range
from reticent.stats.intervals import clopper_pearson_lower, quantile_order
from reticent.stats.roc import need_for_fpr
from reticent.stats.scores import Floats


def smallest_auc(n_member: float, n_held_out: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Smallest AUC above 0.5 whose interval (`reticent.stats.roc.auc`) lies above 0.5 with probability ``power``.

    For scores of two Gaussians of equal variance, whose AUC has a variance in closed form: first the smallest observed
    AUC whose interval excludes 0.5, then the true AUC that gives at least that one with probability ``power``. 1.0
    means that only perfect separation is seen. Below about 20 units a group the true power is lower, by up to 0.2.

    Raises:
        Underpowered: not even an AUC of 1 would be seen; says how many units are needed.

    Examples:
        >>> round(smallest_auc(500, 500), 3), round(smallest_auc(50, 50), 3)
        (0.551, 0.661)
    """
    in_range(0, 1, confidence=confidence, power=power)
    need = math.floor(math.log((1 - confidence) / 2) / math.log(0.5)) + 1  # Clopper-Pearson of k of k pairs above 0.5
    if min(n_member, n_held_out) < need:
        raise Underpowered(
            f"{n_member} members and {n_held_out} held-out units",
            f"at confidence {confidence:.4g} not even perfect separation would show",
            f"Use at least {need} of each.",
        )
    inverse = np.array([1 / n_member, 1 / n_held_out])
    freedom = inverse.sum() ** 2 / (inverse**2 / np.array([n_member - 1, n_held_out - 1])).sum()
    wide = float(student.ppf((1 + confidence) / 2, freedom))
    grid = 0.5 + 0.5 * np.linspace(0, 1, 20001)[1:-1] ** 2  # denser at 0.5, where large audits end
    error = auc_error(grid, n_member, n_held_out)
    excluded = logit(grid) > wide * error / (grid * (1 - grid))
    if not excluded.any():
        return 1.0
    observed = grid[np.argmax(excluded)]
    likely = grid - float(ndtri(power)) * error >= observed
    return float(grid[np.argmax(likely)]) if likely.any() else 1.0


def smallest_tpr(n_member: int, n_held_out: int, fpr: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Smallest TPR at FPR ``fpr`` whose interval (`reticent.stats.roc.tpr_at_fpr`) lies above ``fpr`` with ``power``.

    The interval judges members at a held-out score that is stricter than the asked FPR. How strict is random, by a
    Beta distribution; how much TPR it costs depends on the ROC curve, for which that of two Gaussians of equal
    variance is taken.

    Raises:
        Underpowered: fewer than ``10 / fpr`` held-out units, or too few members to show even a TPR of 1.

    Examples:
        >>> round(smallest_tpr(2000, 2000, 0.01), 3)
        0.035
    """
    in_range(0, 1, fpr=fpr, confidence=confidence, power=power)
    need_for_fpr(n_held_out, fpr)
    miss = (1 - confidence) / 2
    hits = np.arange(1, n_member + 1)
    enough = np.flatnonzero(clopper_pearson_lower(hits, n_member, miss / 2) > fpr)
    rank = n_held_out - quantile_order(n_held_out, 1 - fpr, miss).above  # of the stricter threshold, from the top
    if not len(enough) or rank < 1:
        raise Underpowered(
            f"{n_member} members", f"not even a TPR of 1 would lie above FPR {fpr:g}", "Use more members."
        )
    needed = int(hits[enough[0]])
    strict_fpr = betaincinv(rank, n_held_out - rank + 1, (np.arange(200) + 0.5) / 200)

    def reached(distance: float) -> float:
        """Power less the wanted one, for members ``distance`` standard deviations above the held-out."""
        return float(betainc(needed, n_member - needed + 1, ndtr(ndtri(strict_fpr) + distance)).mean()) - power

    return float(ndtr(ndtri(fpr) + brentq(reached, 0.0, 40.0)))


def auc_error(auc: ArrayLike, n_member: float, n_held_out: float) -> Floats:
    """Standard error of the empirical AUC when scores are Gaussian with equal variance; vectorised over ``auc``."""
    a = np.asarray(auc, dtype=np.float64)
    both = a - 2 * owens_t(ndtri(a), 1 / math.sqrt(3))  # two of one group on the right side of one of the other
    shared = np.maximum(both - a * a, 0.0)
    return np.sqrt((a * (1 - a) + (n_member + n_held_out - 2) * shared) / (n_member * n_held_out))
