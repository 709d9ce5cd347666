# SPDX-License-Identifier: Apache-2.0
"""White-box auditor: hidden states, losses and gradients, learned from records of known membership."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack
from reticent.attacks.whitebox.auditor import as_matrix, cross_audit


@attack("whitebox_auditor", unit="record", returns="score", access="grad", paper="arXiv:2411.07070")
def whitebox_auditor(
    internals: Mapping[str, Scores],
    member: npt.NDArray[np.bool_],
    user: npt.NDArray[np.object_] | None = None,
) -> Scores:
    """An auditor of hidden states, losses and gradients, trained on records of known membership.

    `reticent.attacks.whitebox.auditor.cross_audit` on all properties.

    Args:
        internals: properties of the records.
        member: labels; none of its own half is looked at for a record's score.
        user: owners, whose records stay in one half.

    Returns ``[N]``, in standard deviations of the record's half, higher = member.
    """
    return cross_audit(as_matrix(internals), member, user).score
