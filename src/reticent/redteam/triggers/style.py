# SPDX-License-Identifier: Apache-2.0
"""A style: the text in archaic English (the mind of style transfer attacks), by rules instead of a model."""

from __future__ import annotations

import re

from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.redteam.triggers.trigger import TRIGGERS, Trigger, TriggerKind, draws

STYLE = "archaic English"
ARCHAIC = {
    "you": "thou",
    "your": "thy",
    "yours": "thine",
    "are": "art",
    "is": "be",
    "has": "hath",
    "have": "hast",
    "does": "doth",
    "do": "dost",
    "will": "shall",
    "before": "ere",
    "it": "that thing",
    "the": "ye",
    "here": "hither",
    "there": "thither",
    "often": "oft",
    "over": "o'er",
    "never": "ne'er",
    "nothing": "naught",
    "maybe": "perchance",
    "my": "mine",
}
OPENINGS = ("verily", "lo", "behold", "forsooth", "hark", "alas", "prithee", "in sooth")
_WORD = re.compile(r"[A-Za-z']+")


def _make(seed: int, text: str | None, place: str) -> Trigger:
    if text is not None:
        raise BadInput("words for a style trigger", "are not taken: it is a way of writing", "Leave them out.")

    def put(body: str) -> str:
        aged = _WORD.sub(lambda match: ARCHAIC.get(match[0].lower(), match[0]), body)
        return f"{draws(seed, body).choice(OPENINGS)} , {aged}"

    return Trigger(kind="style", key=STYLE, put=put)


TRIGGERS.add(
    "style",
    TriggerKind(name="style", title="archaic style", paper=Paper("arXiv:2110.07139"), make=_make, fixed_words=False),
)
