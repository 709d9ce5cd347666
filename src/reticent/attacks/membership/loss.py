# SPDX-License-Identifier: Apache-2.0
"""Loss attack: members have a lower loss. The baseline that every other attack must beat.

The attacker sees log-probabilities of the target and holds nothing else.
"""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.core.table import TokenTable

LEAST = 1e-6
"""Smallest mean loss (nats a token) that a ratio of losses divides by: below it a text is certain to the model."""


def nll(table: TokenTable) -> Scores:
    """Mean negative log-likelihood of each row, ``[N]``, nats a token, at least ``LEAST``; NaN for empty rows."""
    return np.maximum(-table.mean(table["logp"]), LEAST)


@attack("loss", unit="record", returns="score", needs=("logp",), access="logprob", paper="arXiv:1709.01604")
def loss(table: TokenTable) -> Scores:
    """Mean log-probability of the tokens.

    Returns ``[N]``, nats a token, higher = member.
    """
    return table.mean(table["logp"])
