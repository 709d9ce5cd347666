# SPDX-License-Identifier: Apache-2.0
"""Exact memorization: how many tokens of a record are the model's first choice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction.attack import extraction
from reticent.score.generation.forced import TeacherForced


@extraction("exact_memorization", access="text", metric="mean", paper="arXiv:2205.10770")
def exact_memorization(whole: TeacherForced) -> npt.NDArray[np.float64]:
    """Mean share of a record's tokens that are the model's first choice given the true ones before them.

    Returns ``[N]``: 1 if all are. Ordinary text has a large share too: only the difference to the base, and to records
    that were not trained on, tells of memory.
    """
    share: npt.NDArray[np.float64] = whole.sum(whole.rank == 0) / whole.lengths
    return share
