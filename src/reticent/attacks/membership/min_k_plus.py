# SPDX-License-Identifier: Apache-2.0
"""Min-K%++: Min-K% after each log-probability is judged against the model's whole distribution at that place.

The attacker sees the target's full next-token distributions (logits), and holds nothing else.
"""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.parameter import Share
from reticent.core.table import TokenTable

LEAST_SIGMA = 1e-3
"""Floor of the standard deviation: a distribution on one token has none, and its token has ``logp == mu``."""


@attack(
    "min_k_plus",
    unit="record",
    returns="score",
    needs=("logp", "mu", "sigma"),
    access="logits",
    paper="arXiv:2404.02936",
)
def min_k_plus(table: TokenTable, *, k: Share = 0.2) -> Scores:
    """Mean standardised log-probability of the tokens where it is lowest.

    ``z = (logp - mu) / sigma``, with mean and standard deviation of ``log p`` over the vocabulary under ``p`` (eq. 2);
    ``sigma`` is at least ``LEAST_SIGMA``.

    Args:
        table: the target on the text.
        k: share of the tokens, in (0, 1]; ``ceil(k·n)`` of ``n`` are taken.

    Returns ``[N]``, standard deviations, higher = member.
    """
    deviation = table["logp"].astype(np.float64) - table["mu"]
    return table.mean_lowest(deviation / np.maximum(table["sigma"], LEAST_SIGMA), k)
