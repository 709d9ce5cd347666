# SPDX-License-Identifier: Apache-2.0
"""Con-ReCaLL: ReCaLL contrasted with a prefix of members, which helps members more than it helps others.

The attacker sees log-probabilities of the target, with prefixes of their choice, and holds a few texts that were not
trained on and a few that were (``known`` records of the split, never records that are evaluated).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.membership.loss import nll
from reticent.attacks.membership.recall import PREFIX_HELD_OUT, conditional_nll, prefixed
from reticent.attacks.parameter import NonNegative
from reticent.core import validate
from reticent.core.table import TokenTable

PREFIX_MEMBER = prefixed("member")
"""The record after texts that are known to be members."""


def edge_cases(
    table: TokenTable, prefix_held_out: TokenTable, prefix_member: TokenTable, *, gamma: float = 0.5
) -> Mapping[str, int]:
    """How many rows lost tokens to a prefix."""
    shorter = np.minimum(prefix_held_out.lengths, prefix_member.lengths) < table.lengths
    return {"cut short because a prefix took room": int(shorter.sum())}


@attack(
    "con_recall",
    unit="record",
    returns="score",
    needs=("logp",),
    access="logprob",
    paper="arXiv:2409.03363",
    variants={variant.name: variant for variant in (PREFIX_HELD_OUT, PREFIX_MEMBER)},
    edge_cases=edge_cases,
)
def con_recall(
    table: TokenTable,
    prefix_held_out: TokenTable,
    prefix_member: TokenTable,
    *,
    gamma: NonNegative = 0.5,
) -> Scores:
    """Loss after known non-members minus a share of the loss after known members, over the loss without prefix.

    Args:
        table: the target on the text.
        prefix_held_out: the target on the text after known non-members.
        prefix_member: the target on the text after known members.
        gamma: weight of the second, at least 0; 0 is ReCaLL.

    Returns ``[N]``, a pure number, higher = member.
    """
    validate.non_negative(gamma=gamma)
    contrast = conditional_nll(prefix_held_out, table) - gamma * conditional_nll(prefix_member, table)
    return contrast / nll(table)
