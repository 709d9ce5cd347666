# SPDX-License-Identifier: Apache-2.0
"""Discoverable memorization by an attacker who knows only a few tokens before the secret."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction.attack import extraction
from reticent.attacks.extraction.discoverable import discoverable
from reticent.score.generation.forced import TeacherForced


@extraction("discoverable_short", access="text", paper="arXiv:2202.07646")
def discoverable_short(short: Mapping[int, TeacherForced], *, tokens: int = 10) -> npt.NDArray[np.float64]:
    """Share of secrets that greedy decoding writes after only the last 10 tokens before them.

    Returns ``[N]``, 1 where it does. Where fewer tokens precede a secret, they are all given.
    """
    return discoverable(short[tokens])
