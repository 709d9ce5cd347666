# SPDX-License-Identifier: Apache-2.0
"""Payment card numbers: the check digit of ISO/IEC 7812-1 (Luhn), and prefixes and lengths that issuers use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from stdnum import luhn

from reticent.core.record import Span
from reticent.data.pii.context_words import cue, near
from reticent.data.pii.detector import SpanEvidence, detector

ISSUERS: tuple[tuple[str, range, tuple[int, ...]], ...] = (
    ("Visa", range(4, 5), (13, 16, 19)),
    ("Mastercard", range(51, 56), (16,)),
    ("Mastercard", range(2221, 2721), (16,)),
    ("American Express", range(34, 35), (15,)),
    ("American Express", range(37, 38), (15,)),
    ("Discover", range(6011, 6012), (16, 19)),
    ("Discover", range(644, 660), (16, 19)),
    ("Diners Club", range(300, 306), (14, 16, 19)),
    ("Diners Club", range(36, 37), (14, 16, 19)),
    ("Diners Club", range(38, 40), (14, 16, 19)),
    ("JCB", range(3528, 3590), (16, 17, 18, 19)),
    ("JCB", range(2131, 2132), (15,)),
    ("JCB", range(1800, 1801), (15,)),
    ("UnionPay", range(62, 63), (16, 17, 18, 19)),
    ("UnionPay", range(81, 82), (16, 17, 18, 19)),
    ("Maestro", range(5018, 5019), tuple(range(12, 20))),
    ("Maestro", range(5020, 5021), tuple(range(12, 20))),
    ("Maestro", range(5038, 5039), tuple(range(12, 20))),
    ("Maestro", range(5893, 5894), tuple(range(12, 20))),
    ("Maestro", range(6304, 6305), tuple(range(12, 20))),
    ("Maestro", range(6759, 6764), tuple(range(12, 20))),
    ("RuPay", range(60, 61), (16,)),
    ("Mir", range(2200, 2205), (16, 17, 18, 19)),
)
"""Issuer, its prefixes as a range of numbers of one length, and how many digits its cards have."""

SHORTEST, LONGEST = 12, 19
_RUN = re.compile(r"(?<![\w.])[0-9]++(?:[ .-][0-9]++)*+(?!\w)")
_CUE = cue(
    "(?:credit|debit|bank|payment)? ?cards?(?: number| no)?", "visa", "master ?card", "amex", "american express",
    "maestro", "discover", "diners(?: club)?", "jcb", "unionpay",
)  # fmt: skip
_GROUP = re.compile(r"[0-9]+")
LAYOUTS = frozenset(
    {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), (4, 4, 4, 1), (4, 4, 4, 2), (4, 4, 5), (6, 13), (8, 8)}
)
"""Digits in the groups in which cards are printed."""


def _printed(parts: Sequence[str]) -> bool:
    """True where groups are as on a card: over tabs and lines other figures have a right check digit by chance."""
    return tuple(len(group) for group in _GROUP.findall(" ".join(parts))) in LAYOUTS


@detector(
    "card_number",
    kinds=("CARD",),
    evidence=SpanEvidence.CHECKED,
    reads="numbers",
    joins=_printed,
    example=("card 4111 1111 1111 1111", "4111 1111 1111 1111"),
)
def card_number(text: str) -> Iterator[Span]:
    """Numbers with a right check digit, in groups or not: of known issuers, or after words such as "card" or "Visa"."""
    for run in _RUN.finditer(text):
        if len(run[0]) < SHORTEST:
            continue
        groups = [(match.start(), match.end()) for match in _GROUP.finditer(text, run.start(), run.end())]
        first = 0
        while first < len(groups):
            last = _card(text, groups, first)
            if last is not None:
                yield Span(start=groups[first][0], end=groups[last][1], kind="CARD")
            first = first + 1 if last is None else last + 1


def issuer(digits: str) -> str | None:
    """The issuer of cards of that prefix and length; None where there is none."""
    for name, prefixes, lengths in ISSUERS:
        if len(digits) in lengths and int(digits[: len(str(prefixes.start))]) in prefixes:
            return name
    return None


def _card(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The last group of a card number that begins with group ``first``; the longest of several."""
    digits, card = "", None
    for last in range(first, min(first + LONGEST, len(groups))):
        digits += text[slice(*groups[last])]
        if len(digits) > LONGEST:
            break
        if len(digits) < SHORTEST:
            continue
        value = text[groups[first][0] : groups[last][1]]
        if "." in value and not _printed([value]):
            continue
        if luhn.is_valid(digits) and (issuer(digits) or near(text, groups[first][0], _CUE)):
            card = last
    return card
