# SPDX-License-Identifier: Apache-2.0
"""From records to users: any score of records becomes a score of their user."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores
from reticent.core import validate
from reticent.core.errors import BadInput

HOW: dict[str, np.ufunc] = {"mean": np.add, "max": np.maximum, "min": np.minimum}
"""Ways to aggregate; ``"mean"`` is the strongest in arXiv:2310.09266."""


def aggregate(scores: Scores, user: npt.NDArray, how: str = "mean") -> tuple[npt.NDArray[np.str_], Scores]:
    """One score for each user.

    Args:
        scores: ``[N]``, higher = member; NaN entries (records without a token to score) are left out.
        user: ``[N]``, who each record belongs to.
        how: ``"mean"``, ``"max"`` or ``"min"``.

    Returns:
        ``(users [U], scores [U])``, users in sorted order; NaN for a user who has no score at all.

    Raises:
        BadInput: a record without a user.
    """
    validate.one_of(tuple(HOW), how=how)
    validate.same_length(scores=scores, user=user)
    if any(id_ is None for id_ in user):
        raise BadInput("records", "some have no user", "Name the field that holds it (--user_field).")
    users, owner = np.unique(np.asarray(user).astype(str), return_inverse=True)
    scored = ~np.isnan(scores)
    order = np.argsort(owner[scored], kind="stable")
    values, owner = np.asarray(scores, dtype=np.float64)[scored][order], owner[scored][order]
    present, start, count = np.unique(owner, return_index=True, return_counts=True)
    out = np.full(len(users), np.nan)
    if len(present):
        reduced = HOW[how].reduceat(values, start)
        out[present] = reduced / count if how == "mean" else reduced
    return users, out
