# SPDX-License-Identifier: Apache-2.0
"""Texts as detectors read them: odd blanks, hyphens, digits and invisible characters made plain, with a way back.

Word processors, PDF and web pages put no-break blanks, en dashes, tabs and line breaks where a form on paper has a
blank or a hyphen. A pattern that knew all of them could not be read, so patterns know the plain ones, and what they
find in the plain text is mapped back to the characters of the original.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from reticent.core.record import Span

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035"
    "\u3038-\u303c\u3041-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f"
    "\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\uffa0-\uffdc\U00016fe0-\U00018aff\U0001b000-\U0001b2ff"
    "\U00020000-\U0003fffd"
)
"""Letters of scripts that put numbers and addresses right beside words (Thai, Lao, Burmese, Khmer, Chinese, Japanese,
Korean), as the inside of a character class: such a letter is no part of a number or of a Latin word beside it."""
LETTER = rf"[^\W_{UNSPACED}]"
"""A letter or digit that a value cannot touch without being a part of a longer word."""

HYPHENS = "\u2010\u2011\ufe63\u058a"
DASHES = "\u2012\u2013\u2014\u2015\u2212\u2043\u2500\u2501\u30fc\u301c\ufe58"
DOTS = "\u00b7\u2022\u2027\u2219\u22c5\u30fb"
_KEPT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Format characters that can be seen."""
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800")
_ODD = re.compile(
    r"[^\t\n\r -~]|&(?:nbsp|ensp|emsp|thinsp|shy|zwnj|zwj|lrm|rlm|ndash|mdash|minus|hyphen|commat|#[0-9]{2,6}"
    r"|#[xX][0-9a-fA-F]{2,5});"
)
_CAPITALS = r"(?<=[A-Z])(?<![A-Za-z][A-Za-z][A-Z])"
_DASHED = re.compile(
    rf"(?<=[0-9)])[ \t]{{0,3}}[{DASHES}][ \t]{{0,3}}(?=[0-9(])"
    rf"|(?<=[0-9])[{DASHES}](?=[A-Z](?![A-Za-z]))|{_CAPITALS}[{DASHES}](?=[0-9])"
)
_DOTTED = re.compile(rf"(?<=[0-9)])[{DOTS}](?=[0-9(])")
_GAP = r"(?=[ \t\r\n/.-]{2}|[\t\n])[ \t]{0,8}[-./]?[ \t]{0,8}(?:\r?\n[ \t>|]{0,12})?[-./]?[ \t]{0,8}"
_BROKEN = re.compile(rf"(?<=[0-9)]){_GAP}(?=\(?[0-9]|[A-Z](?![A-Za-z]))|{_CAPITALS}{_GAP}(?=[0-9])")
"""Between digits, or a digit and the one or two capitals that some numbers begin or end with."""
_BESIDE = re.compile(rf"[_{UNSPACED}]")


@dataclass(frozen=True, eq=False)
class Reading:
    """A text with some stretches replaced, and where they stood.

    Args:
        text: with the replacements.
        edits: rising: ``(start, end)`` in ``text`` and ``(start, end)`` in what it was made from; a replacement has one
            character at most.
        source: what it was made from, if that is a reading itself.
    """

    text: str
    edits: tuple[tuple[int, int, int, int], ...] = ()
    source: Reading | None = None

    @cached_property
    def _ends(self) -> list[int]:
        return [edit[1] for edit in self.edits]

    def back(self, start: int, end: int) -> tuple[int, int]:
        """Where characters ``start`` to ``end`` stand in the original: without invisible characters at the ends."""
        first, last = (start, end) if not self.edits else (self._place(start), self._after(end))
        return (first, last) if self.source is None else self.source.back(first, last)

    def parts(self, start: int, end: int) -> list[str]:
        """The text between ``start`` and ``end``, cut where the last step replaced something."""
        cuts = [start]
        for at in range(bisect_right(self._ends, start), len(self.edits)):
            if self.edits[at][1] > end:
                break
            cuts += self.edits[at][:2]
        return [self.text[first:last] for first, last in zip(cuts[::2], [*cuts[1::2], end], strict=True)]

    def replaced_before(self, start: int) -> bool:
        """True where the last step put a character there that ends at ``start``."""
        at = bisect_right(self._ends, start) - 1
        return at >= 0 and self._ends[at] == start

    def spans(self, view_spans: Iterable[Span]) -> list[Span]:
        """Spans of ``text`` as spans of the original; those that lie outside of it are dropped."""
        mapped = []
        for span in view_spans:
            if 0 <= span.start < span.end <= len(self.text):
                start, end = self.back(span.start, span.end)
                mapped.append(Span(start=start, end=end, kind=span.kind))
        return mapped

    def _place(self, at: int) -> int:
        index = bisect_right(self._ends, at) - 1
        return at if index < 0 else at - self.edits[index][1] + self.edits[index][3]

    def _after(self, at: int) -> int:
        index = bisect_right(self._ends, at - 1)
        if index < len(self.edits) and self.edits[index][0] == at - 1 and self.edits[index][1] == at:
            return self.edits[index][3]
        return self._place(at - 1) + 1


class Readings:
    """The ways in which one text is read; each is made when it is asked for."""

    def __init__(self, text: str) -> None:
        self.raw = Reading(text)

    @cached_property
    def even(self) -> Reading:
        """Blanks, hyphens, digits and letters of odd widths as the plain ones; no invisible characters. Lines stay."""
        edits = []
        for match in _ODD.finditer(self.raw.text):
            plain = _plain(match[0])
            if plain != match[0]:
                edits.append((match.start(), match.end(), plain))
        once = _edited(self.raw, edits)
        marks = [(m.end() - len(m[0].lstrip(" \t")), "-") for m in _DASHED.finditer(once.text)]
        marks += [(m.start(), ".") for m in _DOTTED.finditer(once.text)]
        return _edited(once, [(at, at + 1, put) for at, put in sorted(marks)])

    @cached_property
    def numbers(self) -> Reading:
        """As ``even``, and what a number may touch is no part of a word: an underscore, a letter of a script without
        blanks."""
        text = self.even.text
        apart = _BESIDE.sub(lambda match: " " if match[0] == "_" else "\u3001", text)
        return self.even if apart == text else Reading(apart, (), self.even)

    @cached_property
    def joined(self) -> Reading | None:
        """As ``numbers``, with one blank or mark for each gap between digits that is a tab, a line break, several
        blanks, or a mark with blanks; None where there is none."""
        edits = []
        for match in _BROKEN.finditer(self.numbers.text):
            marks = [char for char in match[0] if char in "-./"]
            if len(marks) < 2:
                edits.append((match.start(), match.end(), marks[0] if marks else " "))
        return _edited(self.numbers, edits) if edits else None


def wordy(char: str) -> bool:
    """True where a value that touches this character (or nothing) is a part of a longer word.

    >>> [wordy(char) for char in ("a", "7", "\u00e9", "_", "\u5361", "")]
    [True, True, True, False, False, False]
    """
    return _WORDY.match(char) is not None


_WORDY = re.compile(LETTER)


def _edited(source: Reading, edits: list[tuple[int, int, str]]) -> Reading:
    """``source`` with rising, disjoint stretches replaced; itself where there are none."""
    if not edits:
        return source
    pieces, places, done, written = [], [], 0, 0
    for start, end, put in edits:
        pieces += [source.text[done:start], put]
        written += start - done
        places.append((written, written + len(put), start, end))
        written += len(put)
        done = end
    return Reading("".join([*pieces, source.text[done:]]), tuple(places), source)


_SEPARATORS = {"Zs": " ", "Zl": "\n", "Zp": "\n"}
"""Plain separators by the general category of a character."""


@lru_cache(maxsize=4096)
def _plain(reference: str) -> str:
    """The plain form of one character or of its HTML entity: at most one character."""
    char = html.unescape(reference)
    if len(char) != 1 or (reference != char and char in "<>&\"'"):
        return reference
    if len(reference) > 1 and "!" <= char <= "~":
        return char
    if char in _INVISIBLE or (unicodedata.category(char) == "Cf" and char not in _KEPT):
        return ""
    if "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef":
        return ""
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if char in "\x0b\x0c\x85" or category in _SEPARATORS:
        return _SEPARATORS.get(category, "\n")
    if category == "Cc":
        return "" if char not in "\t\n\r" else char
    if char in HYPHENS:
        return "-"
    kind, _, rest = unicodedata.decomposition(char).partition(" ")
    if kind in ("<wide>", "<narrow>", "<noBreak>", "<font>", "<small>") and " " not in rest:
        return _plain(chr(int(rest, 16)))
    return char
