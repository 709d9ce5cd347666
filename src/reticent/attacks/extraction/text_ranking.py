# SPDX-License-Identifier: Apache-2.0
"""Text ranking: the texts that an attacker keeps, of all that a model wrote."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reticent.core import validate


def copied_among_best(
    copied: npt.NDArray[np.bool_], score: npt.NDArray[np.float64], keep: float
) -> npt.NDArray[np.float64]:
    """``[M]``: 1 or 0 for the ``ceil(keep·M)`` texts with the highest ``score``, NaN for those thrown away.

    Of equal scores the earlier text is kept.
    """
    validate.in_range(0, 1, keep=keep)
    best = np.argsort(-score, kind="stable")[: math.ceil(keep * len(score) - 1e-9)]
    hits = np.full(len(score), np.nan)
    hits[best] = copied[best]
    return hits
