# SPDX-License-Identifier: Apache-2.0
"""Untargeted extraction: let the model write, keep what it finds likelier than the base does."""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.attacks.extraction.evidence import FreeGenerations
from reticent.attacks.extraction.text_ranking import copied_among_best
from reticent.attacks.parameter import Share


@attack("untargeted", unit="generation", returns="hit", access="logprob", paper="arXiv:2012.07805")
def untargeted(free_generations: FreeGenerations, *, keep: Share = 0.25) -> Scores:
    """Share of freely written texts, of the quarter most likely to be trained on, that copy a training text.

    Ranked by the loss under the base minus the loss under the fine-tuned model; without a base by the loss alone.

    Returns ``[M]``: 1 for kept texts that copy, 0 for kept ones that do not, NaN for those thrown away.
    """
    against = 0.0 if free_generations.base_loss is None else free_generations.base_loss
    return copied_among_best(free_generations.copied, against - free_generations.target_loss, keep)
