# SPDX-License-Identifier: Apache-2.0
"""Discoverable memorization: greedy decoding goes on word for word."""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.score.generation.forced import TeacherForced


@attack("discoverable", unit="secret", returns="hit", access="text", paper="arXiv:2202.07646")
def discoverable(forced: TeacherForced) -> Scores:
    """Share of secrets that greedy decoding writes word for word after the text before them.

    Greedy decoding writes a passage exactly if it is the first choice at each of its tokens given the true ones before,
    so one teacher-forced pass tells, without generating.

    Returns ``[N]``, 1 where it does.
    """
    hits: Scores = (forced.sum(forced.rank != 0) == 0).astype(np.float64)
    return hits
