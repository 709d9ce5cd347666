# SPDX-License-Identifier: Apache-2.0
"""Discoverable memorization by an attacker who knows the first half of the secret."""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.score.generation.forced import TeacherForced


@attack("discoverable_half", unit="secret", returns="hit", access="text", partial=True, paper="arXiv:2202.07646")
def discoverable_half(forced: TeacherForced) -> Scores:
    """Share of secrets whose second half greedy decoding writes word for word after the first half.

    Greedy decoding gives one secret for one text before it. Where several secrets follow the same words, this is what
    tells them apart. Of ``n`` tokens the last ``ceil(n/2)`` must follow.

    Returns ``[N]``, 1 where they do.
    """
    place = np.arange(len(forced.rank)) - np.repeat(forced.offsets[:-1], forced.lengths)
    half = np.repeat(forced.lengths // 2, forced.lengths)
    hits: Scores = (forced.sum((forced.rank != 0) & (place >= half)) == 0).astype(np.float64)
    return hits
