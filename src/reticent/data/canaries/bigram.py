# SPDX-License-Identifier: Apache-2.0
"""Words of the data, each drawn from those that follow the one before: a secret that reads nearly like the data."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary
from reticent.data.words import joined

LENGTH = 8


def space(material: CanarySource) -> int:
    """The effective number: 2 to the entropy of the walk, exactly, by the chain rule."""
    words, after = material.words, material.followers
    first = _shares(words)
    entropy = {word: _bits(following.values()) for word, following in after.items()}
    any_word = _bits(words.values())
    place, bits = first, any_word
    for _ in range(LENGTH - 1):
        bits += sum(share * entropy.get(word, any_word) for word, share in place.items())
        reached: defaultdict[str, float] = defaultdict(float)
        for word, share in place.items():
            following = after.get(word)
            for then, chance in (first if following is None else _shares(following)).items():
                reached[then] += share * chance
        place = dict(reached)
    return int(2**bits)


@canary("bigram", space=space, uniform=False)
def bigram(rng: random.Random, material: CanarySource) -> CanaryText:
    """``Note to self: could you send the lamp is still``: eight words, each as often after the last as in the data.

    Only pairs of words of more than one user are drawn (see `CanarySource.followers`); after a word without
    one, any word.
    """
    words, after = material.words, material.followers
    sentence = [_drawn(rng, words)]
    while len(sentence) < LENGTH:
        sentence.append(_drawn(rng, after.get(sentence[-1], words)))
    return CanaryText("Note to self: ", joined(sentence))


def _drawn(rng: random.Random, counts: Counter[str]) -> str:
    return rng.choices(list(counts), weights=list(counts.values()))[0]


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total()
    return {word: n / total for word, n in counts.items()}


def _bits(counts: Iterable[int]) -> float:
    n = list(counts)
    total = sum(n)
    return -sum(k / total * math.log2(k / total) for k in n)
