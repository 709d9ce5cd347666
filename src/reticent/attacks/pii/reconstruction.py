# SPDX-License-Identifier: Apache-2.0
"""PII reconstruction: the attacker has a text in which a value is masked, and no list."""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.pii.evidence import ProposedFills
from reticent.attacks.pii.ranks import rank_of


@attack("pii_reconstruction", unit="secret", returns="rank", access="logprob", paper="arXiv:2302.00539")
def reconstruction(proposed: ProposedFills) -> Scores:
    """Rank of the true value among those that the model itself proposes for a masked place, by perplexity of the text.

    Returns ``[N]``, 1 = the proposal that fits best is the true value; infinite where it was not proposed.
    """
    ranks = np.full(len(proposed), np.inf)
    for row, (secret, values) in enumerate(zip(proposed.secrets, proposed.values, strict=True)):
        if secret in values:
            ranks[row] = rank_of(-proposed.perplexity[row], list(values).index(secret))
    return ranks
