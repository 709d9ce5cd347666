# SPDX-License-Identifier: Apache-2.0
"""Porter's stemmer (doi:10.1108/eb046814), with the additions of the one that ROUGE is commonly computed with.

These are: a short list of irregular words, "ies" and "ied" of four letters, y after a single consonant, "fulli" and
"logi", and two letters as a short syllable. Words are in lower case; letters beyond a to z count as consonants.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

IRREGULAR = {
    "skies": "sky",
    "sky": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "innings": "inning",
    "inning": "inning",
    "outings": "outing",
    "outing": "outing",
    "cannings": "canning",
    "canning": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}
Rules = Sequence[tuple[str, str]]
PLURAL: Rules = (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", ""))
DOUBLE: Rules = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
)
"""Two suffixes, of which the second goes."""
SINGLE: Rules = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
LAST = (
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent"),
    *("ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
)
"""Suffixes that go from words of two syllables or more."""


@lru_cache(maxsize=1 << 16)
def porter_stem(word: str) -> str:
    """The stem of a word in lower case.

    >>> [porter_stem(word) for word in ("fictitious", "authors", "agreed", "hopping", "relational", "happily", "sky")]
    ['fictiti', 'author', 'agre', 'hop', 'relat', 'happili', 'sky']
    """
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _past(_plural(word))
    if word.endswith("y") and len(word) > 2 and _shape(word[:-1])[-1] == "c":
        word = word[:-1] + "i"
    word = _rewritten(_double(word), SINGLE)
    return _ending(_last(word))


def _shape(word: str) -> str:
    """ "v" for each vowel, "c" for each consonant; y is a vowel behind a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape[-1:] == "c")
        shape += "v" if vowel else "c"
    return shape


def _syllables(word: str) -> int:
    """Porter's measure: how often consonants follow vowels."""
    return _shape(word).count("vc")


def _is_short(word: str) -> bool:
    """Ends in consonant, vowel, consonant other than w, x, y; or is a vowel and a consonant."""
    shape = _shape(word)
    return (shape[-3:] == "cvc" and word[-1] not in "wxy") or shape == "vc"


def _plural(word: str) -> str:
    if len(word) == 4 and word.endswith("ies"):
        return word[:-1]
    return next((word[: -len(end)] + new for end, new in PLURAL if word.endswith(end)), word)


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _syllables(word[:-3]) > 0 else word
    end = next((end for end in ("ed", "ing") if word.endswith(end) and "v" in _shape(word[: -len(end)])), None)
    if end is None:
        return word
    stem = word[: -len(end)]
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if stem[-2:-1] == stem[-1] and _shape(stem)[-1] == "c":
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _syllables(stem) == 1 and _is_short(stem) else stem


def _double(word: str) -> str:
    if word.endswith("alli") and _syllables(word[:-4]) > 0:
        return _double(word[:-2])
    if word.endswith("logi"):  # the l counts with the stem, so that "geology" and "theology" lose their end too
        return word[:-1] if _syllables(word[:-3]) > 0 else word
    return _rewritten(word, DOUBLE)


def _rewritten(word: str, rules: Rules) -> str:
    """By the first rule whose suffix the word has, if a syllable is left."""
    for end, new in rules:
        if word.endswith(end):
            stem = word[: -len(end)]
            return stem + new if _syllables(stem) > 0 else word
    return word


def _last(word: str) -> str:
    for end in LAST:
        if word.endswith(end):
            stem = word[: -len(end)]
            goes = _syllables(stem) > 1 and (end != "ion" or stem[-1] in "st")
            return stem if goes else word
    return word


def _ending(word: str) -> str:
    if word.endswith("e"):
        stem = word[:-1]
        count = _syllables(stem)
        if count > 1 or (count == 1 and not _is_short(stem)):
            word = stem
    return word[:-1] if word.endswith("ll") and _syllables(word[:-1]) > 1 else word
