# SPDX-License-Identifier: Apache-2.0
"""Telephone numbers, by the numbering plans in the package phonenumbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import phonenumbers

from reticent.core.record import Span
from reticent.data.pii.context_words import cue, near
from reticent.data.pii.detector import SpanEvidence, detector

REGIONS = ("US", "GB", "AU", "IN", "DE", "FR", "ES", "IT", "NL", "SE", "DK", "CH", "BR", "MX", "JP", "ZA")
"""Whose national numbers are known. Numbers with a country code are known from everywhere."""

MIN_DIGITS, MAX_DIGITS = 6, 16
_EXTENDED = r"(?:,?[ ]?(?:x|ext\.?|extension)[ ]?[0-9]{1,6})"
_RUN = re.compile(
    r"(?<![\w.$\u00a3\u20ac#%/-])(?<![0-9],)[+(]?[0-9]++(?:[ ().\-]{1,3}[0-9]++|/[0-9]++)*+"
    rf"{_EXTENDED}?(?![\w%/])",
    re.IGNORECASE,
)
_EXTENSION = re.compile(rf"{_EXTENDED}$", re.IGNORECASE)
_NORTH_AMERICAN = re.compile(
    r"(?<![0-9])(?:\+?1[ .-]{0,2})?(?:\([2-9][0-9]{2}\)[ .-]{0,2}|(?<![(])[2-9][0-9]{2}[ .-]{1,2})[0-9]{3}[ .-]{1,2}"
    rf"[0-9]{{4}}(?![0-9]){_EXTENDED}?",
    re.IGNORECASE,
)
"""Three, three and four digits, with or without the country's 1: in longer runs of figures, too."""
_ASIDE = re.compile(r"[ ]\([0-9]{1,2}$")
"""The beginning of a remark such as `` (5)`` behind a number."""
_OFFICE = re.compile(
    r"(?<![^\W_])(?:ext(?:ension|n)?|x)(?:\.|[ ](?:number|no\.?))?(?:[ ]is)?:?[ ]{0,2}"
    r"(?P<own>[0-9](?:-?[0-9]){2,5})(?![\w-]|[.,][0-9])",
    re.IGNORECASE,
)
"""An extension without the number that it belongs to."""
_CUE = cue(
    "(?:tele)?phones?(?: number| no)?",
    "tel",
    "mobile",
    "cell(?:phone)?",
    "fax",
    "call(?:ing|ed)?(?: me| us| him| her| them| back)?",
    "text me",
    "whatsapp",
    "reach(?:ed)?",
    "ring(?: me)?",
    "dial",
    "hotline",
    "landline",
    "contact",
    "answering",
    "my (?:new |old )?number",
)
_HERE = cue("my", "his", "her", "their", "our", "at", "on", "via", "desk", "office", "internal", "use", "try")
_AFTER = re.compile(r"[ ]?[-(,]?[ ]?(?:office|home|mobile|cell|fax|work)(?![^\W_])", re.IGNORECASE)
_DATE = re.compile(
    r"(?:[0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./](?:19|20)[0-9]{2})(?![0-9])"
)
_GROUPED = re.compile(
    r"\(?0[0-9]{1,4}\)?[ .-]?[0-9]|\+|00[1-9]"
    r"|(?:1[ .-]{0,2})?(?:\([0-9]{3}\)[ .-]{0,2}|[0-9]{3}[ .-]{1,2})[0-9]{3}[ .-]{0,2}[0-9]{4}$"
)
_LOCAL = re.compile(r"[2-9][0-9]{2}[ .-][0-9]{4}")


def _joins(parts: Sequence[str]) -> bool:
    """True where a number over tabs or lines is one that a plan knows, or a short North American one; False for two
    numbers, and for a number behind a postal code."""
    value = " ".join(parts)
    if any(map(_is_known, parts)) or re.fullmatch(r"[0-9]{5,}", parts[0]):
        return False
    return _is_known(value) or _LOCAL.fullmatch(_EXTENSION.sub("", value)) is not None


def _is_known(value: str) -> bool:
    digits = sum(char.isdigit() for char in _EXTENSION.sub("", value))
    return digits <= MAX_DIGITS and _is_written_as_phone(value, digits) and _valid(value)


@detector(
    "phone",
    kinds=("PHONE",),
    evidence=SpanEvidence.FORM,
    reads="numbers",
    joins=_joins,
    example=("on (212) 555-0123 or", "(212) 555-0123"),
)
def phone(text: str) -> Iterator[Span]:
    """Numbers that a numbering plan knows; after "call", "tel." and the like also those that only look like one."""
    for match in _RUN.finditer(text):
        start, end = match.span()
        aside = _ASIDE.search(match[0])
        if aside and text[end : end + 1] == ")":
            end = start + aside.start()
        if _is_phone(text, start, end):
            yield Span(start=_opened(text, start, end), end=end, kind="PHONE")
        else:
            for number in _NORTH_AMERICAN.finditer(text, start, end):
                yield Span(start=number.start(), end=number.end(), kind="PHONE")
    for match in _OFFICE.finditer(text):
        if near(text, match.start(), _HERE, reach=12) or near(text, match.start(), _CUE, reach=60):
            yield Span(start=match.start("own"), end=match.end(), kind="PHONE")


def _is_phone(text: str, start: int, end: int) -> bool:
    value = text[start:end]
    digits = sum(char.isdigit() for char in _EXTENSION.sub("", value))
    if not MIN_DIGITS <= digits <= MAX_DIGITS or _DATE.match(value):
        return False
    if _is_known(value):
        return True
    cued = near(text, start, _CUE, reach=30) or _AFTER.match(text, end) is not None
    return cued and _possible(value, digits)


def _opened(text: str, start: int, end: int) -> int:
    """Without a bracket that nothing closes."""
    return start + (text[start] == "(" and ")" not in text[start:end])


def _is_written_as_phone(value: str, digits: int) -> bool:
    """With a country code, a trunk 0 or the groups of a North American number: other figures are not taken for one."""
    return digits >= 9 and _GROUPED.match(_EXTENSION.sub("", value)) is not None


@lru_cache(maxsize=4096)
def _valid(value: str) -> bool:
    if re.match(r"\+|00[1-9]", value):
        return _known("+" + value.removeprefix("+").removeprefix("00"), None, sure=False)
    plain = _EXTENSION.sub("", value)
    if _NORTH_AMERICAN.fullmatch(plain) or re.fullmatch(r"\(?[0-9]{3}\)?[ .-]{1,2}[0-9]{3}[ .-][0-9]{4}", plain):
        return True  # made-up numbers and retired areas are written like this too, and hardly anything else is
    return any(_known(value, region, sure=not value.startswith(("07700 900", "07700900"))) for region in REGIONS)


def _possible(value: str, digits: int) -> bool:
    return digits >= 7 or " " in value or "-" in value


def _known(value: str, region: str | None, *, sure: bool) -> bool:
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_valid_number(number) if sure else phonenumbers.is_possible_number(number))
