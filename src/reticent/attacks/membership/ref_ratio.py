# SPDX-License-Identifier: Apache-2.0
"""Reference ratio: the share of the reference's loss that the target still has.

The attacker sees log-probabilities of the target and holds the base model. The ratio weighs a gain on an easy text more
than the same gain on a hard one, which the difference does not.
"""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.attacks.membership.loss import nll
from reticent.core.table import TokenTable


@attack("ref_ratio", unit="record", returns="score", needs=("logp",), access="logprob", paper="arXiv:2012.07805")
def ref_ratio(table: TokenTable, ref: TokenTable) -> Scores:
    """Minus the target's loss over the reference's loss.

    Both are means over tokens. Returns ``[N]``, a pure number at most 0, higher = member.
    """
    return -nll(table) / nll(ref)
