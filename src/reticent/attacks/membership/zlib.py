# SPDX-License-Identifier: Apache-2.0
"""Zlib attack: the loss judged against how well plain compression does, so that dull text is not mistaken for known.

The attacker sees log-probabilities of the target and holds nothing else.
"""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.core.table import TokenTable


@attack("zlib", unit="record", returns="score", needs=("logp",), access="logprob", paper="arXiv:2012.07805")
def zlib(table: TokenTable) -> Scores:
    """Log-likelihood of the text over the bytes that zlib needs for it.

    The whole text's log-likelihood is taken, so that both sides grow with its length (the paper's own code takes the
    mean over tokens, which favours long texts). Returns ``[N]``, nats a byte, higher = member.
    """
    return table.mean(table["logp"]) * table.lengths / table["zlib_bytes"]
