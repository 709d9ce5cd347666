# SPDX-License-Identifier: Apache-2.0
"""Extraction strength: how much of a record need not be given to get the rest."""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.score.generation.forced import TeacherForced


@attack("extraction_strength", unit="record", returns="share", access="text", paper="arXiv:2012.07805")
def extraction_strength(whole: TeacherForced) -> Scores:
    """Mean share of a record that greedy decoding writes to its end without a mistake.

    ``1 - k/n`` for the smallest ``k`` such that, given the first ``k`` of ``n`` trained tokens, all others follow.

    Returns ``[N]``: 1 if all follows from the first token alone, 0 if the last token does not follow.
    """
    place = np.arange(len(whole.rank)) - np.repeat(whole.offsets[:-1], whole.lengths)
    last_miss = np.maximum.reduceat(np.where(whole.rank != 0, place + 1, 0), whole.offsets[:-1])
    strength: Scores = 1.0 - last_miss / whole.lengths
    return strength
