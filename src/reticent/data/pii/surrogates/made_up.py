# SPDX-License-Identifier: Apache-2.0
"""Made-up names of organisations, places and streets, of syllables."""

from __future__ import annotations

from reticent.data.pii.surrogate import Draw, surrogate

_HEADS = (
    "Al", "Bren", "Cor", "Del", "Er", "Fal", "Gar", "Hal", "Il", "Jor", "Kel", "Lor", "Mar", "Nor", "Or", "Pel",
    "Quin", "Ros", "Sel", "Tor", "Ul", "Ver", "Wen", "Yor", "Zel",
)  # fmt: skip
_MIDDLES = (
    "a", "e", "i", "o", "an", "en", "in", "ar", "er", "or", "el", "il", "ad", "ed", "iv", "os",
)  # fmt: skip
_TAILS = (
    "da", "den", "dra", "la", "len", "lin", "mer", "na", "nor", "ra", "ric", "ron", "sen", "ta", "ton", "vin",
)  # fmt: skip
_TOWNS = (
    "ford", "ham", "bury", "wick", "stead", "mouth", "field", "dale", "haven", "brook",
)  # fmt: skip
_FIRMS = ("Group", "Partners", "Services", "Works", "Trading", "Systems", "Supplies", "Associates")
_STREETS = ("Street", "Road", "Avenue", "Lane", "Close")


def made_up(draw: Draw) -> str:
    """One of 6,400 names that can be spoken."""
    return draw.choice(_HEADS) + draw.choice(_MIDDLES) + draw.choice(_TAILS)


@surrogate("ORGANISATION")
def organisation(original: str, draw: Draw) -> str:
    """A made-up name and a word that such names end in."""
    return f"{made_up(draw)} {draw.choice(_FIRMS)}"


@surrogate("LOCATION")
def location(original: str, draw: Draw) -> str:
    """A made-up town."""
    return draw.choice(_HEADS) + draw.choice(_MIDDLES) + draw.choice(_TOWNS)


@surrogate("ADDRESS")
def address(original: str, draw: Draw) -> str:
    """A made-up street in a made-up town, without a code: every code is of a real place."""
    number, street = 1 + draw.below(199), f"{made_up(draw)} {draw.choice(_STREETS)}"
    return f"{number} {street}, {location(original, draw)}"
