# SPDX-License-Identifier: Apache-2.0
"""ReCaLL: put texts that are surely outside in front; the likelihood of a member drops more than that of others.

The attacker sees log-probabilities of the target, with a prefix of their choice, and holds a few texts that were not
trained on (``known`` records of the split, never records that are evaluated). One prefix serves all records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.membership.loss import LEAST, nll
from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.core.table import TokenTable
from reticent.score.requests import RenderContext, Variant

SHOTS = 7
SHOT_CHARACTERS = 300
"""Each text of the prefix is cut to this, so that the prefix leaves room in the context for the record."""

Who = Literal["held_out", "member"]


def prefixed(who: Who, *, shots: int = SHOTS, name: str = "") -> Variant:
    """The record after a prefix of ``shots`` known texts.

    Args:
        who: whether the texts are known to be held out or known to be members.
        shots: how many texts; spread evenly over the known ones.
        name: of the variant; needed when ``shots`` is not the default, as one name means one rendering.
    """
    if shots != SHOTS and not name:
        raise BadInput(f"shots={shots}", "is another variant than the default", "Give it a name of its own.")
    return Variant(
        name=name or f"prefix_{who}",
        render=partial(_with_prefix, who=who, shots=shots),
        params=(who, shots, SHOT_CHARACTERS),
        needs=("known_held_out",) if who == "held_out" else ("known_members",),
    )


def _with_prefix(record: Record, context: RenderContext, *, who: Who, shots: int) -> Sequence[Record]:
    examples = context.known_held_out if who == "held_out" else context.known_members
    if not examples:
        raise BadInput(
            f"prefix_{who}", "no records are set aside as known to the attacker", "Split with known records."
        )
    chosen = np.unique(np.linspace(0, len(examples) - 1, min(shots, len(examples))).round().astype(int))
    prefix = "".join(examples[i].plain[:SHOT_CHARACTERS].strip() + "\n\n" for i in chosen)
    if record.messages is None:
        prompt, completion = (prefix + (record.prompt or "")), record.completion
        completion = record.text if completion is None else completion
        return [replace(record, text=None, prompt=prompt, completion=completion, spans=())]
    return [replace(record, messages=_into_first_turn(record.messages, prefix), spans=())]


def _into_first_turn(messages: tuple[Message, ...], prefix: str) -> tuple[Message, ...]:
    """The prefix goes where every chat template allows text: into the first turn that is not trained on."""
    if messages and messages[0].role != "assistant":
        return (replace(messages[0], content=prefix + messages[0].content), *messages[1:])
    return (Message(role="user", content=prefix.strip()), *messages)


PREFIX_HELD_OUT = prefixed("held_out")
"""The record after texts that are known to be held out."""


def conditional_nll(prefixed: TokenTable, table: TokenTable) -> Scores:
    """Mean loss of each row of ``prefixed`` over the tokens that ``table`` has too, ``[N]``, nats a token.

    Without a prefix nothing predicts the first token of a plain text, so that ``prefixed`` may have one more.
    """
    shared = np.minimum(prefixed.lengths, table.lengths)
    place = np.arange(prefixed.offsets[-1]) - np.repeat(prefixed.offsets[1:] - shared, prefixed.lengths)
    total = prefixed.sum(np.where(place >= 0, prefixed["logp"], 0.0))
    with np.errstate(invalid="ignore"):
        return np.maximum(-total / shared, LEAST)


def edge_cases(table: TokenTable, prefix_held_out: TokenTable) -> Mapping[str, int]:
    """How many rows lost tokens to the prefix."""
    return {"cut short because the prefix took room": int((prefix_held_out.lengths < table.lengths).sum())}


@attack(
    "recall",
    unit="record",
    returns="score",
    needs=("logp",),
    access="logprob",
    paper="arXiv:2406.15968",
    variants={PREFIX_HELD_OUT.name: PREFIX_HELD_OUT},
    edge_cases=edge_cases,
)
def recall(table: TokenTable, prefix_held_out: TokenTable) -> Scores:
    """Loss after a prefix of known non-members over the loss without it.

    Equal to the paper's ratio of log-likelihoods ``LL(x | P) / LL(x)``.

    Returns ``[N]``, a pure number, higher = member.
    """
    return conditional_nll(prefix_held_out, table) / nll(table)
