# SPDX-License-Identifier: Apache-2.0
"""Untargeted extraction, ranked without a second model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction.attack import extraction
from reticent.attacks.extraction.evidence import FreeGenerations
from reticent.attacks.extraction.text_ranking import copied_among_best


@extraction("untargeted_zlib", access="logprob", paper="arXiv:2012.07805")
def untargeted_zlib(drawn: FreeGenerations, *, keep: float = 0.25) -> npt.NDArray[np.float64]:
    """Share of freely written texts, of the quarter best by loss and compressed length, that copy a training text.

    Ranked by bytes after zlib over loss: text that compresses badly and is likely all the same.

    Returns ``[M]``: 1 for kept texts that copy, 0 for kept ones that do not, NaN for those thrown away.
    """
    return copied_among_best(drawn.copied, drawn.zlib_bytes / np.maximum(drawn.target_loss, 1e-6), keep)
