# SPDX-License-Identifier: Apache-2.0
"""Untargeted extraction: let the model write, keep what it finds likelier than the base does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction.attack import extraction
from reticent.attacks.extraction.evidence import FreeGenerations
from reticent.attacks.extraction.text_ranking import copied_among_best


@extraction("untargeted", access="logprob", paper="arXiv:2012.07805")
def untargeted(drawn: FreeGenerations, *, keep: float = 0.25) -> npt.NDArray[np.float64]:
    """Share of freely written texts, of the quarter most likely to be trained on, that copy a training text.

    Ranked by the loss under the base minus the loss under the fine-tuned model; without a base by the loss alone.

    Returns ``[M]``: 1 for kept texts that copy, 0 for kept ones that do not, NaN for those thrown away.
    """
    against = 0.0 if drawn.base_loss is None else drawn.base_loss
    return copied_among_best(drawn.copied, against - drawn.target_loss, keep)
