# SPDX-License-Identifier: Apache-2.0
"""Cut a text that is longer than the model can read into overlapping windows that predict each token once."""

from __future__ import annotations

from typing import NamedTuple

from reticent.core import validate


class Window(NamedTuple):
    """The model reads tokens ``start … stop - 2`` and predicts tokens ``first … stop - 1``."""

    start: int
    first: int
    stop: int


def windows(tokens: int, size: int, overlap: int | None = None) -> list[Window]:
    """Windows over a text of ``tokens`` tokens of which the model can read ``size`` at a time.

    Token 0 has nothing before it and is never predicted. Every other token is predicted exactly once: in the first
    window from all that precedes it, later from at least ``overlap`` tokens before it (read again).

    A text of 12 tokens, ``size=6``, ``overlap=2``; ``r`` is read, ``P`` predicted, ``B`` both::

        token     0  1  2  3  4  5  6  7  8  9 10 11
        window 0  r  B  B  B  B  B  P                    start=0  first=1   stop=7
        window 1                 r  r  B  B  B  B  P     start=5  first=7   stop=12
                                 └──┘ overlap

    Args:
        tokens: length of the text.
        size: most tokens that are read in one window, at least 2.
        overlap: tokens that are read again, less than ``size``; None for a quarter of ``size``.

    Returns:
        The windows in reading order; none for texts of less than two tokens.
    """
    validate.positive(size=size - 1)
    again = max(1, size // 4) if overlap is None else overlap
    validate.in_range(0, size - 1, overlap=again)
    result: list[Window] = []
    first = 1
    while first < tokens:
        start = max(0, first - again) if result else 0
        stop = min(tokens, start + size + 1)
        result.append(Window(start, first, stop))
        first = stop
    return result
