# SPDX-License-Identifier: Apache-2.0
"""Telephone numbers, by the numbering plans in the package phonenumbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers

from reticent.core.record import Span
from reticent.data.pii.context import cue, near
from reticent.data.pii.detector import Evidence, detector

REGIONS = ("US", "GB", "AU", "IN", "DE", "FR", "ES", "IT", "NL", "SE", "DK", "CH", "BR", "MX", "JP", "ZA")
"""Whose national numbers are known. Numbers with a country code are known from everywhere."""

MIN_DIGITS, MAX_DIGITS = 6, 16
_RUN = re.compile(
    r"(?<![\w.$\u00a3\u20ac#%=/-])(?<![0-9],)[+(]?[0-9]++(?:[ \u00a0().\-]{1,3}[0-9]++|/[0-9]++)*+"
    r"(?:,?[ ]?(?:x|ext\.?|extension)[ ]?[0-9]{1,6})?(?![\w%/])",
    re.IGNORECASE,
)
_EXTENSION = re.compile(r",?[ ]?(?:x|ext\.?|extension)[ ]?[0-9]{1,6}$", re.IGNORECASE)
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
_AFTER = re.compile(r"[ ]?[-(,]?[ ]?(?:office|home|mobile|cell|fax|work)(?![^\W_])", re.IGNORECASE)
_DATE = re.compile(
    r"(?:[0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./](?:19|20)[0-9]{2})(?![0-9])"
)
_GROUPED = re.compile(r"\(?0[0-9]{1,4}\)?[ .-]?[0-9]|\+|00[1-9]|\(?[0-9]{3}\)?[ .-]{1,2}[0-9]{3}[ .-][0-9]{4}$")


@detector("phone", kinds=("PHONE",), evidence=Evidence.FORM)
def phone(text: str) -> Iterator[Span]:
    """Numbers that a numbering plan knows; after "call", "tel." and the like also those that only look like one."""
    for match in _RUN.finditer(text):
        value = match[0]
        digits = sum(char.isdigit() for char in _EXTENSION.sub("", value))
        if not MIN_DIGITS <= digits <= MAX_DIGITS or _DATE.match(value):
            continue
        cued = near(text, match.start(), _CUE, reach=30) or _AFTER.match(text, match.end()) is not None
        if (cued and _possible(value, digits)) or (_is_written_as_phone(value, digits) and _valid(value)):
            start, end = match.span()
            start += value.startswith("(") and ")" not in value
            yield Span(start=start, end=end, kind="PHONE")


def _is_written_as_phone(value: str, digits: int) -> bool:
    """With a country code, a trunk 0 or the groups of a North American number: other figures are not taken for one."""
    return digits >= 9 and _GROUPED.match(_EXTENSION.sub("", value)) is not None


def _valid(value: str) -> bool:
    if re.match(r"\+|00[1-9]", value):
        return _known("+" + value.removeprefix("+").removeprefix("00"), None, sure=False)
    plain = _EXTENSION.sub("", value)
    if re.fullmatch(r"\(?[0-9]{3}\)?[ .-]{1,2}[0-9]{3}[ .-][0-9]{4}", plain):
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
