# SPDX-License-Identifier: Apache-2.0
"""Words of a stranger for a line of a report: a few of many."""

from __future__ import annotations

from collections.abc import Sequence

MOST, LONGEST = 4, 24


def shown(words: Sequence[str]) -> str:
    """The first few, quoted.

    >>> shown(["a", "b"]), shown(list("abcdef"))
    ("'a', 'b'", "'a', 'b', 'c', 'd' and 2 more")
    """
    first = ", ".join(repr(word if len(word) <= LONGEST else word[:LONGEST] + "…") for word in words[:MOST])
    return first if len(words) <= MOST else f"{first} and {len(words) - MOST} more"
