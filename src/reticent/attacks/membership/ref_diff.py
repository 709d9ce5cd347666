# SPDX-License-Identifier: Apache-2.0
"""Reference difference: how much better the fine-tuned model does on a text than the model it came from.

The attacker sees log-probabilities of the target and holds the base model, which is public for most fine-tunes.
"""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.core.table import TokenTable


@attack("ref_diff", unit="record", returns="score", needs=("logp",), access="logprob", paper="arXiv:2205.12506")
def ref_diff(table: TokenTable, ref: TokenTable) -> Scores:
    """Mean log-probability under the target minus under the reference.

    Returns ``[N]``, nats a token, higher = member.
    """
    return table.mean(table["logp"]) - ref.mean(ref["logp"])
