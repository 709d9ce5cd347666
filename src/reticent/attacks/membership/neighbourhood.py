# SPDX-License-Identifier: Apache-2.0
"""Neighbourhood attack: compare a text with close variations of it, in place of a reference model on the text.

The attacker sees log-probabilities of the target on the text and on its neighbours, and holds some language model that
proposes likely replacements (here the reference). Dear: each neighbour is one more scoring pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from reticent.attacks.attack import Scores, attack
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.table import TokenTable
from reticent.score.requests import RenderContext, Variant

COPIES = 10
FRACTION = 0.15
"""Share of the trained tokens that is replaced."""


def neighbours_of(record: Record, context: RenderContext) -> Sequence[Record]:
    """``COPIES`` variations of the record, with ``FRACTION`` of the tokens replaced by likely ones."""
    if context.propose is None:
        raise BadInput("attack 'neighbourhood'", "needs a model that proposes replacements", "Give --reference.")
    return context.propose(record, COPIES, FRACTION)


NEIGHBOURS = Variant(name="neighbours", copies=COPIES, render=neighbours_of, params=(FRACTION,), needs=("propose",))
"""Variations of the record."""


@attack(
    "neighbourhood",
    unit="record",
    returns="score",
    needs=("logp",),
    access="logprob",
    paper="arXiv:2305.18462",
    variants={NEIGHBOURS.name: NEIGHBOURS},
)
def neighbourhood(table: TokenTable, neighbours: TokenTable) -> Scores:
    """Mean loss of variations of the text minus the loss of the text.

    Args:
        table: the target on the text.
        neighbours: the target on its variations, any number of adjacent rows for each record.

    Returns ``[N]``, nats a token, higher = member.
    """
    copies = len(neighbours) // len(table)
    around = neighbours.mean(neighbours["logp"]).reshape(len(table), copies).mean(axis=1)
    return table.mean(table["logp"]) - around
