# SPDX-License-Identifier: Apache-2.0
"""ROUGE-L (Lin, 2004): the longest common subsequence of words, over the words of the reference or of the text.

Words are those of the package that the field computes it with: lower case, stretches of a to z and digits, stemmed
where they have more than three letters and stemming is asked for. In that way a text in Cyrillic or Chinese has no
word at all and every answer scores 0, or is judged by its digits alone. So where most letters of a *reference* are of
another script than Latin, both texts are cut into Unicode words instead (`reticent.data.words.units`: single characters
in scripts without blanks). Latin letters with accents stay as the package has them, which cuts "café" to "caf" on both
sides, so that numbers compare with published ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reticent.core.validate import same_length
from reticent.data.words import units
from reticent.stats.scores import Floats
from reticent.unlearning.benchmarks.porter_stemmer import porter_stem

STEMMED_FROM = 4
"""Letters from which on a word is stemmed."""
_WORD = re.compile(r"[a-z0-9]+")


class RougeL(NamedTuple):
    """Shares, 0 to 1; all 0 where one side has no words."""

    precision: float
    """Of the text's words."""
    recall: float
    """Of the reference's words."""
    f: float
    """Harmonic mean of both."""


def rouge_l(reference: str, text: str, *, stem: bool) -> RougeL:
    """ROUGE-L of one text.

    Args:
        reference: the true answer.
        text: as a model wrote it.
        stem: compare stems: "authors" is "author". TOFU does, MUSE does not.

    Examples:
        >>> rouge_l("The cat sat on the mat.", "the cat on a mat", stem=False)
        RougeL(precision=0.8, recall=0.6666666666666666, f=0.7272727272727272)
    """
    by_words = is_other_script(reference)
    want, have = (_tokens(side, stem=stem, by_words=by_words) for side in (reference, text))
    if not want or not have:
        return RougeL(0.0, 0.0, 0.0)
    shared = longest_common_subsequence(want, have)
    precision, recall = shared / len(have), shared / len(want)
    return RougeL(precision, recall, 2 * precision * recall / (precision + recall) if shared else 0.0)


def rouge_l_recall(references: Sequence[str], texts: Sequence[str], *, stem: bool = True) -> Floats:
    """``[N]`` ROUGE-L recall, as TOFU has it."""
    same_length(references=references, texts=texts)
    return np.array([rouge_l(a, b, stem=stem).recall for a, b in zip(references, texts, strict=True)], dtype=np.float64)


def rouge_l_f(references: Sequence[str], texts: Sequence[str], *, stem: bool = False) -> Floats:
    """``[N]`` ROUGE-L F, as MUSE has it."""
    same_length(references=references, texts=texts)
    return np.array([rouge_l(a, b, stem=stem).f for a, b in zip(references, texts, strict=True)], dtype=np.float64)


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest sequence that both have in order, with gaps. A row of the table is a number (Hyyrö, 2004).

    >>> longest_common_subsequence("a b c d".split(), "x b d".split())
    2
    """
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(a)) - 1
    row = whole
    for word in b:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & whole
    return len(a) - row.bit_count()


def is_other_script(text: str) -> bool:
    """True if most letters of a text are not Latin ones."""
    if text.isascii():
        return False
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(letter.isascii() or unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return 2 * latin < len(letters)


def _tokens(text: str, *, stem: bool, by_words: bool) -> list[str]:
    words = units(text) if by_words else _WORD.findall(text.lower())
    if not stem:
        return words
    return [porter_stem(word) if len(word) >= STEMMED_FROM and word.isascii() else word for word in words]
