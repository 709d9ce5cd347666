# SPDX-License-Identifier: Apache-2.0
"""N-gram coverage: given its beginning, the target writes more of the record than the base does.

The attacker sees nothing but text: what an API gives to everybody. The record is cut in the middle, both models go on
from there several times, and the share of the true rest that lies in n-grams which a model also wrote is its coverage.
The base's is subtracted: what anybody would write next tells nothing of training.

The paper takes the largest or the mean coverage over samples and no base. SaMIA (arXiv:2404.11262) is the case of
single words without a base.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack
from reticent.attacks.continuations import Continuations
from reticent.attacks.parameter import Count
from reticent.core import validate

LONGEST = 4
"""n-grams of one up to so many words."""
FEWEST_WORDS = 4
"""A rest with fewer words is looked at character by character."""
CHARACTERS = 4
"""Characters that stand for a word there."""

_NO_SPACES = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, kana and Chinese characters: no blanks stand between words."""
_WORD = re.compile(rf"[{_NO_SPACES}]|(?:(?![{_NO_SPACES}])\w)+")


def words(text: str) -> list[str]:
    """Folded words; of scripts without blanks between words, characters.

    >>> words("Pay 20 EUR, now!"), words("你好")
    (['pay', '20', 'eur', 'now'], ['你', '好'])
    """
    return _WORD.findall(text.casefold())


def coverage(rest: Sequence[str], written: Sequence[str], n: int) -> float:
    """Share of ``rest`` that lies in runs of ``n`` or more that ``written`` has too; 0 for an empty rest.

    >>> coverage("a b c d e".split(), "x b c d y".split(), 2)
    0.6
    """
    grams = {tuple(written[i : i + n]) for i in range(len(written) - n + 1)}
    covered: npt.NDArray[np.bool_] = np.zeros(len(rest), dtype=bool)
    for i in range(len(rest) - n + 1):
        if tuple(rest[i : i + n]) in grams:
            covered[i : i + n] = True
    return float(covered.mean()) if len(rest) else 0.0


def covered(rest: str, texts: Sequence[str], longest: int) -> float:
    """Coverage of ``rest``, mean over n-grams of one up to ``longest`` words and over the samples; in [0, 1]."""
    parts, size = words(rest), 1
    by_word = len(parts) >= FEWEST_WORDS
    if not by_word:
        parts, size = _characters(rest), CHARACTERS
    if not parts or not texts:
        return 0.0
    written = [words(text) if by_word else _characters(text) for text in texts]
    lengths = range(size, size * longest + 1, size)
    return float(np.mean([coverage(parts, sample, n) for sample in written for n in lengths]))


def _characters(text: str) -> list[str]:
    return [char for char in text.casefold() if not char.isspace()]


def edge_cases(written: Continuations, written_ref: Continuations, *, longest: int = LONGEST) -> Mapping[str, int]:
    """How many records there is little to compare in."""
    none = sum(not rest.strip() for rest in written.rest)
    few = sum(bool(rest.strip()) and len(words(rest)) < FEWEST_WORDS for rest in written.rest)
    return {
        "too short to be cut in two (scored 0, as if nothing were known)": none,
        f"fewer than {FEWEST_WORDS} words to be written, compared by characters": few,
    }


@attack(
    "ngram_coverage",
    unit="record",
    returns="score",
    access="text",
    paper="arXiv:2508.09603",
    edge_cases=edge_cases,
)
def ngram_coverage(written: Continuations, written_ref: Continuations, *, longest: Count = LONGEST) -> Scores:
    """How much more of the rest of the text the target writes than the base does, in n-grams.

    Args:
        written: what the target wrote.
        written_ref: what the reference wrote after the same beginnings.
        longest: n-grams of one up to so many words.

    Returns ``[N]``, in [-1, 1], higher = member; 0 where nothing could be written.
    """
    validate.positive(longest=longest)
    pairs = zip(written.rest, written.texts, written_ref.texts, strict=True)
    return np.array(
        [covered(rest, mine, longest) - covered(rest, theirs, longest) for rest, mine, theirs in pairs],
        dtype=np.float64,
    )
