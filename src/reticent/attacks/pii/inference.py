# SPDX-License-Identifier: Apache-2.0
"""PII inference: the attacker knows the text around a value, and a list that the value is on."""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.pii.evidence import CandidateRanking
from reticent.attacks.pii.ranks import rank_of


@attack("pii_inference", unit="secret", returns="rank", access="logprob", paper="arXiv:2302.00539")
def inference(ranked: CandidateRanking) -> Scores:
    """Rank of the true value among others of its kind, by how likely the model finds each in the text.

    The paper ranks by the perplexity of the sentence; here it is by log p, so that long values are not favoured.

    Returns ``[N]``, 1 = the model finds no other more likely.
    """
    return np.array([rank_of(logp, true) for logp, true in zip(ranked.logp, ranked.truth, strict=True)])
