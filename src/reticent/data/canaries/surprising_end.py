# SPDX-License-Identifier: Apache-2.0
"""An ordinary beginning and an end that nobody would write: a secret made to be told by synthetic text.

A model that writes text like the data comes upon the beginning by itself, and what it learned to follow then stands in
the text (The Canary's Echo, arXiv:2502.14921). Secrets that look like nothing in the data are hardly ever begun.
"""

from __future__ import annotations

import random

from reticent.core.errors import BadInput
from reticent.data.canaries.bigram import LENGTH as WALK
from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary
from reticent.data.canaries.passphrase import WORDS
from reticent.data.words import joined

LENGTH = 6
OPENINGS = (
    "I am writing to ask about", "Thank you for your answer about", "Could you please tell me about",
    "I have a question about", "Please let me know about", "We talked on the phone about", "I would like to know about",
    "As I said before about",
)  # fmt: skip


@canary("surprising_end", space=len(WORDS) ** LENGTH)
def surprising_end(rng: random.Random, material: CanarySource) -> CanaryText:
    """``I have a question about walnut river copper moss igloo plum``: an ordinary beginning, six random words.

    The beginning is a walk over words of the data that follow each other (see `bigram`), where the data may be looked
    at and has enough of them that two people use; else a phrase that is the same for all data. The secret comes from a
    list and needs no data.
    """
    return CanaryText(f"{_beginning(rng, material)} ", " ".join(rng.choice(WORDS) for _ in range(LENGTH)))


def _beginning(rng: random.Random, material: CanarySource) -> str:
    try:
        words, after = (material.words, material.followers) if material.records else ({}, {})
    except BadInput:
        words, after = {}, {}
    if not words:
        return rng.choice(OPENINGS)
    walk = [rng.choices(list(words), weights=list(words.values()))[0]]
    while len(walk) < WALK:
        following = after.get(walk[-1], words)
        walk.append(rng.choices(list(following), weights=list(following.values()))[0])
    return joined(walk)
