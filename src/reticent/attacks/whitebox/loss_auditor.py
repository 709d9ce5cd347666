# SPDX-License-Identifier: Apache-2.0
"""Loss auditor: the white-box procedure on the loss alone, to see what looking inside adds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack
from reticent.attacks.whitebox.auditor import as_matrix, cross_audit


@attack("loss_auditor", unit="record", returns="score", access="logprob", paper="arXiv:2411.07070")
def loss_auditor(
    internals: Mapping[str, Scores],
    member: npt.NDArray[np.bool_],
    user: npt.NDArray[np.object_] | None = None,
) -> Scores:
    """An auditor of the loss alone, trained alike: what looking inside is compared with.

    `reticent.attacks.whitebox.auditor.cross_audit` on the loss alone.

    Args:
        internals: properties of the records.
        member: labels; none of its own half is looked at for a record's score.
        user: owners, whose records stay in one half.

    Returns ``[N]``, in standard deviations of the record's half, higher = member.
    """
    return cross_audit(as_matrix({"loss": internals["loss"]}), member, user).score
