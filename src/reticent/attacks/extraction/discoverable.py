# SPDX-License-Identifier: Apache-2.0
"""Discoverable memorization: greedy decoding goes on word for word."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction.attack import extraction
from reticent.score.generation.forced import TeacherForced


@extraction("discoverable", access="text", paper="arXiv:2202.07646")
def discoverable(forced: TeacherForced) -> npt.NDArray[np.float64]:
    """Share of secrets that greedy decoding writes word for word after the text before them.

    Greedy decoding writes a passage exactly if it is the first choice at each of its tokens given the true ones before,
    so one teacher-forced pass tells, without generating.

    Returns ``[N]``, 1 where it does.
    """
    found: npt.NDArray[np.float64] = (forced.sum(forced.rank != 0) == 0).astype(np.float64)
    return found
