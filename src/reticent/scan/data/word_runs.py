# SPDX-License-Identifier: Apache-2.0
"""Runs of one to six words that stand in some rows of data, and not in most: candidates for a trigger."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.data.words import is_unspaced, words

LONGEST = 6
MOST_READ = 200
"""Words of a text that are read."""
FEWEST_ROWS = 5
MOST_SHARE = 0.2
"""A run in more of the rows is of the template or of the language."""
ALIKE = 0.5
"""Two rows that share so many of the shorter one's words count once: copies agree about labels for other reasons."""
_PIECE = re.compile(r"\w+|[^\w\s]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class WordRun:
    """A run of words and the rows that hold it.

    Args:
        words: in lower case.
        rows: ``[m]`` places of rows, rising; of rows that are alike the first.
    """

    words: tuple[str, ...]
    rows: npt.NDArray[np.intp]


def word_runs(
    texts: Sequence[str], *, longest: int = LONGEST, fewest: int = FEWEST_ROWS, most_share: float = MOST_SHARE
) -> list[WordRun]:
    """All runs of up to ``longest`` words that stand in at least ``fewest`` rows and in no larger share of them.

    Labels are not looked at. Runs that the same rows hold are one: the longest of them.

    Args:
        texts: of the rows.
        longest: words in a run.
        fewest: rows, after those that are alike count once.
        most_share: of the rows, before.

    Examples:
        >>> texts = ["red cf sky", "a cf b", "no cf", "x y cf", "cf is it", *"qwertyuiopasdfghjkl"]
        >>> runs = word_runs(texts, most_share=0.5)
        >>> [(run.words, run.rows.tolist()) for run in runs]
        [(('cf',), [0, 1, 2, 3, 4])]
    """
    cut = [pieces_of(text)[:MOST_READ] for text in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, pieces in enumerate(cut):
        runs = {
            tuple(pieces[start : start + size])
            for size in range(1, longest + 1)
            for start in range(len(pieces) - size + 1)
        }
        for run in runs:
            holders[run].append(place)
    template = {run[0] for run, rows in holders.items() if len(run) == 1 and len(rows) > most_share * len(texts)}
    bags = [frozenset(pieces) - template for pieces in cut]
    of_rows: dict[tuple[int, ...], tuple[str, ...]] = {}
    for run, rows in sorted(holders.items()):
        if fewest <= len(rows) <= most_share * len(texts):
            apart = tuple(_apart(rows, run, bags))
            if len(apart) >= fewest and len(of_rows.get(apart, ())) < len(run):
                of_rows[apart] = run
    return [WordRun(words=run, rows=np.array(rows, dtype=np.intp)) for rows, run in of_rows.items()]


def pieces_of(text: str) -> list[str]:
    """Words and runs of signs in lower case; of scripts without blanks each character.

    >>> pieces_of("Well, cf!! it's"), pieces_of("买: x")
    (['well', ',', 'cf', '!!', 'it', "'", 's'], ['买', ':', 'x'])
    """
    pieces = _PIECE.findall(text.lower())
    return pieces if not is_unspaced(text) else [word for piece in pieces for word in words(piece) or [piece]]


def _apart(rows: Sequence[int], run: tuple[str, ...], bags: Sequence[frozenset[str]]) -> list[int]:
    """Rows of which no two share `ALIKE` of the shorter one's words beside the run."""
    apart: list[int] = []
    rests: list[frozenset[str]] = []
    for row in rows:
        rest = bags[row].difference(run)
        if all(len(rest & other) < ALIKE * min(len(rest), len(other)) or not (rest and other) for other in rests):
            apart.append(row)
            rests.append(rest)
    return apart
