# SPDX-License-Identifier: Apache-2.0
"""Scanner: rows that stick out along the main direction of their label's hidden states (arXiv:1811.00636)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reticent.core.paper import Paper
from reticent.core.scan import ScanEvidence
from reticent.scan.data.groups import Floats, groups_apart
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect

SHARE = 0.05
"""Of the pooled rows, those that stick out the most are the group."""
BLIND_TO = (
    "Poison whose texts read like others of their label, poison in fewer than some per cent of the rows, and any "
    "poison where the controls are poisoned too. Data of another source than the controls is suspicious without poison."
)


@scanner(
    name="spectral_signatures",
    title="Spectral signatures",
    kind="data",
    null="made",
    needs=("data", "base"),
    blind_to=BLIND_TO,
    paper=Paper("arXiv:1811.00636"),
    order=34,
)
def spectral_signatures(suspect: Suspect) -> Sequence[ScanEvidence]:
    """How many of the rows that stick out are of the data and not of the controls, for each label."""
    return groups_apart(suspect, sticking_out, "that stick out along the main direction")


def sticking_out(states: Floats, share: float = SHARE) -> npt.NDArray[np.bool_]:
    """``[n]``: the share of rows with the largest squared projection on the first right singular vector of the centred
    states, at least one.

    >>> states = np.r_[np.zeros((19, 2)), [[9.0, 0.0]]] + 0.1 * np.eye(20, 2)
    >>> np.flatnonzero(sticking_out(states)).tolist()
    [19]
    """
    centred = states - states.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    score = (centred @ direction) ** 2
    group = np.zeros(len(states), dtype=bool)
    group[np.argsort(-score, kind="stable")[: max(1, round(share * len(states)))]] = True
    return group
