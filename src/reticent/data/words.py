# SPDX-License-Identifier: Apache-2.0
"""Words: the text between blanks, and in scripts that are written without blanks each character.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and others put no blank between words. Cut at blanks, such a text is one
word of a hundred letters that no other text has: what counts words is blind to it. Single characters, and the pairs
and longer runs that are made of them, tell such texts apart as words tell others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import regex

_SCRIPTS = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\uff70\p{Bopomofo}\p{Yi}\p{Tangut}\p{Nushu}\p{lb=SA}\p{Javanese}\p{Balinese}"
)
"""The two single ones prolong a vowel of either kana. Line-break class SA: Thai, Lao, Khmer, Burmese, Tai scripts."""
_ONE = rf"[{_SCRIPTS}][\p{{M}}\u200c\u200d]*+"
_LETTER = rf"(?:(?![{_SCRIPTS}])[\p{{L}}\p{{N}}_]\p{{M}}*+)"
_WORD = regex.compile(rf"{_ONE}|{_LETTER}++(?:[\u200c\u200d]++{_LETTER}++)*+")
_PIECE = regex.compile(rf"(?:{_ONE}(?:(?![{_SCRIPTS}])[^\w\s])*+|(?:(?![{_SCRIPTS}])\S)++)\s*+")
_UNSPACED = regex.compile(rf"[{_SCRIPTS}]")
_PLAIN_WORD = re.compile(r"\w+")
_PLAIN_PIECE = re.compile(r"\S+\s*")
_FIRST_MARK = "\u0300"
"""No character before this combines with others, or is of a script without blanks."""


def words(text: str) -> list[str]:
    """The words of a text in their order; of scripts without blanks each character with the marks on it.

    >>> words("It's 5 o'clock"), words("买iPhone吧"), words("กิน")
    (['It', 's', '5', 'o', 'clock'], ['买', 'iPhone', '吧'], ['กิ', 'น'])
    """
    return _PLAIN_WORD.findall(text) if _is_plain(text) else _WORD.findall(text)


def units(text: str) -> list[str]:
    """`words` in one spelling: lower case, compatible and composed forms alike; of a text without any, its symbols.

    For comparing texts: full-width and half-width letters, and accents written with the letter or behind it, are equal.

    >>> units("ＡＢＣ café"), units("👍👍 !")
    (['abc', 'café'], ['👍', '👍'])
    """
    folded = (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower()
    return words(folded) or symbols(folded)


def symbols(text: str) -> list[str]:
    """Signs that are neither letters nor punctuation, such as emoji, in their order."""
    return [character for character in text if unicodedata.category(character)[0] == "S"]


def pieces(text: str) -> list[str]:
    """The whole text but for blanks at its beginning, cut behind each word and the signs and blanks that follow it.

    >>> pieces("See  you, Bo"), pieces("你好，Bo！")
    (['See  ', 'you, ', 'Bo'], ['你', '好，', 'Bo！'])
    """
    return (_PIECE if _UNSPACED.search(text) else _PLAIN_PIECE).findall(text)


def joined(words: Iterable[str]) -> str:
    """Words as a text: with a blank between two, unless one is of a script without blanks.

    >>> joined(["see", "you"]), joined(["再", "见", "Bo", "Li"])
    ('see you', '再见Bo Li')
    """
    text = ""
    for word in words:
        text += f" {word}" if needs_blank(text, word) else word
    return text


def needs_blank(before: str, after: str) -> bool:
    """True if two stretches of text would run together without a blank between them."""
    if not before or not after or before[-1].isspace() or after[0].isspace():
        return False
    last = next((character for character in reversed(before) if not unicodedata.combining(character)), before[-1])
    return not (is_unspaced(last) or is_unspaced(after[0]))


def is_unspaced(text: str) -> bool:
    """True if a character of ``text`` is of a script that is written without blanks."""
    return _UNSPACED.search(text) is not None


def is_word_of_letters(word: str) -> bool:
    """True if a word is made of letters and the marks on them."""
    return word[:1].isalpha() and all(letter.isalpha() or unicodedata.category(letter)[0] == "M" for letter in word)


def unspaced_share(texts: Sequence[str]) -> float:
    """Share of the words of all texts (see `words`) that are single characters of scripts without blanks; 0 to 1."""
    every = [len(words(text)) for text in texts]
    single = [len(_UNSPACED.findall(text)) for text in texts]
    return sum(single) / max(1, sum(every))


def _is_plain(text: str) -> bool:
    return text.isascii() or max(text) < _FIRST_MARK
