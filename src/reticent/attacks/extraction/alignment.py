# SPDX-License-Identifier: Apache-2.0
"""How near two sequences are: edit distance to the best beginning, longest common run, BLEU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np


def edit_distance_to_start(secret: Sequence[Any], text: Sequence[Any]) -> int:
    """Fewest insertions, deletions and replacements that make some beginning of ``text`` into ``secret``.

    What a model writes after a secret does not count against it. At most ``len(secret)``. Wagner-Fischer, one row of
    the table after the other; insertions run along the row as a cumulative minimum.

    >>> edit_distance_to_start("4711", "4712 and more"), edit_distance_to_start("abc", "")
    (1, 3)
    """
    place = np.arange(len(secret) + 1)
    row = place.copy()
    best = int(row[-1])
    letters = np.array([hash(letter) for letter in secret], dtype=np.int64)
    for written, letter in enumerate(text, start=1):
        if written > 2 * len(secret):
            break
        step = np.minimum(row[1:] + 1, row[:-1] + (letters != hash(letter)))
        rest = np.concatenate([[written], step])
        row = np.minimum.accumulate(rest - place) + place
        best = min(best, int(row[-1]))
    return best


def longest_common_run(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the longest stretch without gaps that both have.

    >>> longest_common_run("the key is 4711", "a key is 42")
    9
    """
    row = np.zeros(len(b) + 1, dtype=np.int64)
    letters = np.array([hash(letter) for letter in b], dtype=np.int64)
    best = 0
    for letter in a:
        row[1:] = np.where(letters == hash(letter), row[:-1] + 1, 0)
        best = max(best, int(row.max()))
    return best


def bleu(reference: Sequence[Any], text: Sequence[Any], *, order: int = 4) -> float:
    """BLEU of one text against one reference (doi:10.3115/1073083.1073135): the geometric mean of the clipped n-gram
    precisions for n up to ``order`` (or the shorter length), times the penalty for brevity. 0 if one of them is 0.

    >>> bleu("abcde", "abcde"), bleu("abcde", "vwxyz")
    (1.0, 0.0)
    """
    order = min(order, len(reference), len(text))
    if not order:
        return 0.0
    logs = []
    for n in range(1, order + 1):
        have, want = _ngrams(text, n), _ngrams(reference, n)
        shared = sum(min(count, want[gram]) for gram, count in have.items())
        if not shared:
            return 0.0
        logs.append(math.log(shared / have.total()))
    brevity = min(0.0, 1 - len(reference) / len(text))
    return math.exp(brevity + math.fsum(logs) / order)


def _ngrams(sequence: Sequence[Any], n: int) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(sequence[start : start + n]) for start in range(len(sequence) - n + 1))
