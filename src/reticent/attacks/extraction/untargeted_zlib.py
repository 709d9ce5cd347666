# SPDX-License-Identifier: Apache-2.0
"""Untargeted extraction, ranked without a second model."""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.extraction.evidence import FreeGenerations
from reticent.attacks.extraction.text_ranking import copied_among_best
from reticent.attacks.parameter import Share


@attack("untargeted_zlib", unit="generation", returns="hit", access="logprob", paper="arXiv:2012.07805")
def untargeted_zlib(free_generations: FreeGenerations, *, keep: Share = 0.25) -> Scores:
    """Share of freely written texts, of the quarter best by loss and compressed length, that copy a training text.

    Ranked by bytes after zlib over loss: text that compresses badly and is likely all the same.

    Returns ``[M]``: 1 for kept texts that copy, 0 for kept ones that do not, NaN for those thrown away.
    """
    return copied_among_best(
        free_generations.copied, free_generations.zlib_bytes / np.maximum(free_generations.target_loss, 1e-6), keep
    )
