# SPDX-License-Identifier: Apache-2.0
"""Words of the data in random order, common ones often: a secret that looks like the data, word by word."""

from __future__ import annotations

import math
import random

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary
from reticent.data.words import joined

LENGTH = 6


def space(material: CanarySource) -> int:
    """The effective number: 2 to the entropy of six independent words."""
    words = material.words
    total = words.total()
    bits = -sum(n / total * math.log2(n / total) for n in words.values())
    return int(2 ** (LENGTH * bits))


@canary("unigram", space=space, uniform=False)
def unigram(rng: random.Random, material: CanarySource) -> CanaryText:
    """``Note to self: the order I lamp is and``: six words, each drawn as often as the data has it.

    Only words of more than one user are drawn (see `CanarySource.words`).
    """
    words = material.words
    return CanaryText("Note to self: ", joined(rng.choices(list(words), weights=list(words.values()), k=LENGTH)))
