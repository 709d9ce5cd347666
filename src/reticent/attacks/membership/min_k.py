# SPDX-License-Identifier: Apache-2.0
"""Min-K%: a text that was not seen has at least some tokens that surprise the model much.

The attacker sees log-probabilities of the target and holds nothing else.
"""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.attacks.parameter import Share
from reticent.core.table import TokenTable


@attack("min_k", unit="record", returns="score", needs=("logp",), access="logprob", paper="arXiv:2310.16789")
def min_k(table: TokenTable, *, k: Share = 0.2) -> Scores:
    """Mean log-probability of the least likely tokens.

    Args:
        table: the target on the text.
        k: share of the tokens, in (0, 1]; ``ceil(k·n)`` of ``n`` are taken, so that short texts have at least one.

    Returns ``[N]``, nats a token, higher = member.
    """
    return table.mean_lowest(table["logp"], k)
