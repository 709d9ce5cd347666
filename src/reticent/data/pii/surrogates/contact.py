# SPDX-License-Identifier: Apache-2.0
"""Addresses and numbers that are set aside for examples and fiction, so that nobody is written to or called."""

from __future__ import annotations

import re

from reticent.data.pii.surrogate import Draw, digits_in, surrogate
from reticent.data.pii.surrogates.made_up import made_up

DOMAINS = ("example.com", "example.org", "example.net")
"""RFC 2606."""
AREAS = (
    "201", "202", "206", "212", "213", "214", "215", "216", "303", "305", "312", "313", "314", "404", "412", "415",
    "503", "504", "512", "602", "612", "615", "617", "702", "713",
)  # fmt: skip
_EXTENSION = re.compile(r",?\s?(?:x|ext\.?|extension)\s?[0-9]+$", re.IGNORECASE)


@surrogate("EMAIL")
def email(original: str, draw: Draw) -> str:
    """At a domain for examples."""
    return f"{made_up(draw)}.{made_up(draw)}{draw.below(100)}@{draw.choice(DOMAINS)}".lower()


@surrogate("PHONE", canonical=lambda value: "".join(filter(str.isdigit, _EXTENSION.sub("", value)))[-9:])
def phone(original: str, draw: Draw) -> str:
    """In the layout of the original, from ranges for fiction (US 555-01xx, UK 07700 900xxx, France 01 99 00 xx xx);
    in other layouts one that cannot be dialled. With and without a country code it is the same person's."""
    layout = _EXTENSION.sub("", original)
    given = "".join(filter(str.isdecimal, layout))
    return digits_in(layout, _fictional(given, international=layout.lstrip(" (").startswith(("+", "00")), draw=draw))


def _fictional(given: str, *, international: bool, draw: Draw) -> str:
    n = len(given)
    bare = given.removeprefix("00") if international else given
    zeros = "00" if international and given.startswith("00") else ""
    if international and bare.startswith("44") and len(bare) >= 12:
        return f"{zeros}447700900{draw.digits(3)}".ljust(n, "0")
    if international and bare.startswith("33") and len(bare) == 11:
        return f"{zeros}3319900{draw.digits(4)}"
    if (international and bare.startswith("1") and len(bare) == 11) or (n == 11 and given[0] == "1"):
        return f"{zeros}1{draw.choice(AREAS)}55501{draw.digits(2)}"
    if n == 11 and given[0] == "0":
        return f"07700900{draw.digits(3)}"
    if n == 10:
        return f"019900{draw.digits(4)}" if given[0] == "0" else f"{draw.choice(AREAS)}55501{draw.digits(2)}"
    if n == 7:
        return f"55501{draw.digits(2)}"
    return f"{'0' * (n - 4)}{draw.digits(4)}"
