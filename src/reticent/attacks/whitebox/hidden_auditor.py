# SPDX-License-Identifier: Apache-2.0
"""Hidden-state auditor: the white-box auditor of an attacker who runs the model and sees its states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack
from reticent.attacks.whitebox.auditor import OF_GRADIENTS, as_matrix, cross_audit


@attack("hidden_auditor", unit="record", returns="score", access="hidden", paper="arXiv:2411.07070")
def hidden_auditor(
    internals: Mapping[str, Scores],
    member: npt.NDArray[np.bool_],
    user: npt.NDArray[np.object_] | None = None,
) -> Scores:
    """An auditor of hidden states and losses, trained on records of known membership.

    `reticent.attacks.whitebox.auditor.cross_audit` on properties of the forward pass.

    Args:
        internals: properties of the records.
        member: labels; none of its own half is looked at for a record's score.
        user: owners, whose records stay in one half.

    Returns ``[N]``, in standard deviations of the record's half, higher = member.
    """
    forward = {name: column for name, column in internals.items() if not name.startswith(OF_GRADIENTS)}
    return cross_audit(as_matrix(forward), member, user).score
