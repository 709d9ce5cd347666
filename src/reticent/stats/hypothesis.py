# SPDX-License-Identifier: Apache-2.0
"""p-values of units, and corrections for having looked at several things.

Direction: higher scores say "member"; all p-values are one-sided, small when members (or one unit) score high.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reticent.core.errors import BadInput
from reticent.core.validate import in_range
from reticent.stats.scores import Floats, as_scores


def family_confidence(confidence: float, tests: int) -> float:
    """Confidence for each of ``tests`` intervals so that all hold together with ``confidence`` (Bonferroni).

    Examples:
        >>> round(family_confidence(0.95, 10), 6)
        0.995
    """
    in_range(0, 1, confidence=confidence)
    in_range(0, np.inf, tests=tests)
    return 1 - (1 - confidence) / tests


def holm(p_values: ArrayLike) -> Floats:
    """p-values corrected for having looked at all of them, by Holm's step-down rule; valid for dependent tests.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    p = as_scores(p_values, name="p_values")
    if not np.all((p >= 0) & (p <= 1)):
        raise BadInput("p_values", "some lie outside [0, 1]", "Give probabilities.")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def p_values(scores: ArrayLike, held_out: ArrayLike) -> Floats:
    """``[N]`` share of held-out units that score at least as high, with the unit itself counted in.

    ``(1 + #{held_out >= score}) / (1 + N_held_out)``: a valid p-value for "this unit is like the held-out ones",
    never below ``1 / (1 + N_held_out)``.

    Args:
        scores: ``[N]`` scores of the units in question, none of them among ``held_out``.
        held_out: ``[N_held_out]`` scores.
    """
    x, y = as_scores(scores, name="scores"), np.sort(as_scores(held_out, name="held_out"))
    reached = len(y) - np.searchsorted(y, x, side="left")
    return np.asarray((1.0 + reached) / (1.0 + len(y)), dtype=np.float64)
