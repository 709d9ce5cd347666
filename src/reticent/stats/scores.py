# SPDX-License-Identifier: Apache-2.0
"""The input of a statistic: one float64 vector of scores for each group, without NaN."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.errors import BadInput

Floats = NDArray[np.float64]


def as_scores(scores: ArrayLike, *, name: str) -> Floats:
    """``scores`` as ``[N]`` float64. ``±inf`` is a rank like any other (an attack may mean "surely a member").

    >>> as_scores([1, float("inf")], name="member")
    array([ 1., inf])

    Raises:
        BadInput: not one-dimensional, empty, or NaN among the scores.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1:
        raise BadInput(f"{name} of shape {array.shape}", "scores must be one-dimensional", "Give one score a unit.")
    if not len(array):
        raise BadInput(f"{name} is empty", "there is nothing to compare", "Give at least one unit in each group.")
    bad = np.flatnonzero(np.isnan(array))
    if len(bad):
        raise BadInput(
            f"{name}[{bad[0]}] is NaN ({len(bad)} of {len(array)})",
            "a score without a value has no rank, and dropping it could hide a leak",
            "Mend the attack, or drop the unit from both groups by a rule that does not look at membership.",
        )
    return array
