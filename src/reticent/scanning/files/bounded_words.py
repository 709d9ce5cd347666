# SPDX-License-Identifier: Apache-2.0
"""Words of a stranger for a line of a report: a few of many, and nothing that a terminal would obey."""

from __future__ import annotations

from collections.abc import Sequence

MOST, LONGEST = 4, 24
MOST_LINE = 600
"""Characters of a line."""


def printable(text: str, most: int = MOST_LINE) -> str:
    """The text with control characters, marks of direction and broken bytes as escapes, and cut where it is too long.

    >>> printable("a\\x1b[2Jb\\n")
    'a\\\\x1b[2Jb\\\\n'
    """
    cut = text if len(text) <= most else text[:most] + "…"
    if cut.isprintable():
        return cut
    escaped = (sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in cut)
    return "".join(escaped)


def shown(words: Sequence[str]) -> str:
    """The first few, quoted.

    >>> shown(["a", "b"]), shown(list("abcdef"))
    ("'a', 'b'", "'a', 'b', 'c', 'd' and 2 more")
    """
    first = ", ".join(repr(word if len(word) <= LONGEST else word[:LONGEST] + "…") for word in words[:MOST])
    return first if len(words) <= MOST else f"{first} and {len(words) - MOST} more"
