# SPDX-License-Identifier: Apache-2.0
"""Context words: what stands shortly before a value and says what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

NAME_PART = r"(?:[^\W\d_a-z]\.|[^\W\d_a-z][\w'’-]{0,24}+)"
"""A capitalised word, or an initial."""
REACH = 40
"""Characters before a value in which a context word counts."""


def cue(*words: str) -> re.Pattern[str]:
    """Any of the words (regular expressions, blanks match any white space), whole and in any case."""
    joined = "|".join(word.replace(" ", r"[\s_-]{1,3}") for word in words)
    return re.compile(rf"(?<![^\W_])(?:{joined})(?![^\W_])", re.IGNORECASE)


def cued(
    text: str, values: Iterable[re.Match[str]], words: re.Pattern[str], *, reach: int = REACH
) -> Iterator[re.Match[str]]:
    """The values that have a context word at most ``reach`` characters before them."""
    for value in values:
        if near(text, value.start(), words, reach=reach):
            yield value


def near(text: str, start: int, words: re.Pattern[str], *, reach: int = REACH) -> bool:
    """True where a context word lies in the ``reach`` characters before ``start``."""
    return words.search(text, max(0, start - reach), start) is not None
