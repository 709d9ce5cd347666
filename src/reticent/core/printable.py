# SPDX-License-Identifier: Apache-2.0
"""Words of a stranger, such as names of files, for a line of a screen or a report: nothing that a terminal obeys."""

from __future__ import annotations

import unicodedata

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
    return "".join(sign if _stays(sign) else sign.encode("unicode_escape").decode("ascii") for sign in cut)


def _stays(sign: str) -> bool:
    return sign.isprintable() or unicodedata.category(sign) == "Zs"
