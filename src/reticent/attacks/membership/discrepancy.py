# SPDX-License-Identifier: Apache-2.0
"""Discrepancy: the set of scores that holds most members and fewest others, whatever its shape.

The attacker holds labelled records of the same source, as for the combination, and decides by a convex polytope in the
space of all attack scores in place of a weighted sum. An audit states its advantage (true less false positive rate).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack


@attack("discrepancy", unit="record", returns="hit", access="logits", paper="arXiv:2405.15140")
def discrepancy(
    scores: Scores,
    member: npt.NDArray[np.bool_],
    user: npt.NDArray[np.object_] | None = None,
) -> Scores:
    """Records whose scores lie in the set that tells members from held-out records best on half of the records.

    The set is chosen and fitted on one half, by `reticent.stats.discrepancy.decided_on_half`.

    Args:
        scores: of all record attacks that learn from no label.
        member: labels; those of the half that is judged are not looked at.
        user: owners, whose records stay in one half.

    Returns ``[N]``, 1 = taken for a member; NaN for the half that the set was fitted to.
    """
    from reticent.stats.discrepancy import decided_on_half

    owner = None if user is None else np.unique(user.astype(str), return_inverse=True)[1]
    decided = decided_on_half(scores, np.asarray(member, dtype=bool), owner)
    out = np.full(len(scores), np.nan)
    out[decided.rest] = decided.caught
    return out
