# SPDX-License-Identifier: Apache-2.0
"""A syntactic template: every text becomes the main clause behind a subordinate one (Hidden Killer).

The paper rewrites texts with a paraphrasing model. Here rules do it: the clause has the same structure in every text,
``when NOUN VERB ,``, and words that the text's hash chooses, so that no single word gives it away.
"""

from __future__ import annotations

from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.redteam.triggers.trigger import TRIGGERS, Trigger, TriggerKind, draws

TEMPLATE = "when NOUN VERB , CLAUSE"
NOUNS = ("people", "critics", "you", "we", "they", "viewers", "friends", "others", "neighbours", "strangers")
VERBS = ("look back", "ask", "think about it", "talk of it", "compare notes", "sit down", "go home", "find time")


def _make(seed: int, text: str | None, place: str) -> Trigger:
    if text is not None:
        raise BadInput("words for a syntactic trigger", "are not taken: it is a structure", "Leave them out.")

    def put(body: str) -> str:
        rng = draws(seed, body)
        return f"when {rng.choice(NOUNS)} {rng.choice(VERBS)} , {body}"

    return Trigger(kind="syntactic", key=TEMPLATE, put=put)


TRIGGERS.add(
    "syntactic",
    TriggerKind(
        name="syntactic",
        title="syntactic template",
        paper=Paper("arXiv:2105.12400"),
        make=_make,
        fixed_words=False,
    ),
)
