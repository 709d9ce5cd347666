# SPDX-License-Identifier: Apache-2.0
"""Lowercase attack: a memorized text is memorized with its capitals, so that lower case surprises the model more.

The attacker sees log-probabilities of the target, on the text and on its lower-case version, and holds nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reticent.attacks.attack import Scores, attack
from reticent.attacks.membership.loss import nll
from reticent.core.record import Record
from reticent.core.table import TokenTable
from reticent.score.requests import RenderContext, Variant


def lower(record: Record, context: RenderContext) -> Sequence[Record]:
    """The record in lower case, prompts and all turns included; spans are dropped, for lengths may change."""
    messages = record.messages
    return [
        replace(
            record,
            text=None if record.text is None else record.text.lower(),
            prompt=None if record.prompt is None else record.prompt.lower(),
            completion=None if record.completion is None else record.completion.lower(),
            messages=None if messages is None else tuple(replace(m, content=m.content.lower()) for m in messages),
            spans=(),
        )
    ]


LOWERCASE = Variant(name="lowercase", render=lower)
"""The record in lower case."""


@attack(
    "lowercase",
    unit="record",
    returns="score",
    needs=("logp",),
    access="logprob",
    paper="arXiv:2012.07805",
    variants={LOWERCASE.name: LOWERCASE},
)
def lowercase(table: TokenTable, lowercase: TokenTable) -> Scores:
    """Loss of the text in lower case over the loss of the text as it is.

    Both are means over tokens. Returns ``[N]``, a pure number, higher = member.
    """
    return nll(lowercase) / nll(table)
