# SPDX-License-Identifier: Apache-2.0
"""Made-up people. Each word of a name has one surrogate, so that a full name and a part of it still belong together."""

from __future__ import annotations

import re
from functools import cache

from faker.providers.person.en_US import Provider

from reticent.data.pii.surrogate import Draw, surrogate
from reticent.data.pii.surrogates.made_up import made_up

KEPT = frozenset((
    "de", "van", "von", "der", "den", "la", "le", "da", "di", "bin", "al", "el", "y", "and", "of", "mr", "mrs",
    "ms", "miss", "mx", "dr", "prof", "sir", "jr", "sr", "ii", "iii",
))  # fmt: skip
"""Particles and titles, which many people share."""
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@surrogate("PERSON", canonical=str.casefold)
def person(original: str, draw: Draw) -> str:
    """Word for word: who is "Ana Lee" once, and "ANA" or "Ms Lee" elsewhere, keeps the same made-up names.

    First names become first names and others surnames, by Faker's lists, which hold common names of the US."""
    return WORD.sub(lambda match: _word(match[0], draw), original)


def _word(word: str, draw: Draw) -> str:
    folded = word.casefold()
    if folded in KEPT:
        return word
    word_draw = draw.of(f"PERSON {folded}")
    if len(word) == 1:
        return chr(ord("A") + (ord(word.upper()) - ord("A") + 1 + word_draw.below(25)) % 26) if word.isalpha() else "0"
    pool = _first_names() if folded in {name.casefold() for name in _first_names()} else _surnames()
    tries = iter(range(Draw.TRIES))
    replacement = word_draw.unused(
        word, lambda: word_draw.choice(pool) if next(tries) < Draw.TRIES // 2 else made_up(word_draw)
    )
    return replacement.upper() if word.isupper() else replacement.lower() if word.islower() else replacement


@cache
def _first_names() -> tuple[str, ...]:
    return tuple(sorted(set(Provider.first_names)))


@cache
def _surnames() -> tuple[str, ...]:
    return tuple(sorted(set(Provider.last_names)))
