# SPDX-License-Identifier: Apache-2.0
"""International bank account numbers: length by country and the check digits of ISO 13616."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector
from reticent.data.pii.reading import DASHES, wordy

LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Country → characters of its account numbers."""

_GAP = " \t\r\n>_" + DASHES + "-"
_START = re.compile(rf"(?<![A-Za-z0-9])[A-Za-z]{{2}}[0-9]{{2}}(?:[{_GAP}]{{0,4}}[A-Za-z0-9]){{11,29}}+")


@detector(
    "iban",
    kinds=("IBAN",),
    evidence=SpanEvidence.CHECKED,
    reads="even",
    example=("to GB82 WEST 1234 5698 7654 32 please", "GB82 WEST 1234 5698 7654 32"),
)
def iban(text: str) -> Iterator[Span]:
    """Account numbers with right check digits, in groups or not."""
    for match in _START.finditer(text):
        end = _end(text, match.start())
        if end is not None:
            yield Span(start=match.start(), end=end, kind="IBAN")


def remainder(number: str) -> int:
    """The number modulo 97 as ISO 13616 says; 1 for a right one.

    >>> remainder("GB82WEST12345698765432")
    1
    """
    return int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97


def _end(text: str, start: int) -> int | None:
    """Where the account number that begins at ``start`` ends."""
    length = LENGTHS.get(text[start : start + 2].upper())
    number, place = "", start
    while length is not None and place < len(text) and len(number) < length:
        if text[place].isascii() and text[place].isalnum():
            number += text[place].upper()
        elif text[place] not in _GAP:
            return None
        place += 1
    if length is None or len(number) < length or wordy(text[place : place + 1]) or remainder(number) != 1:
        return None
    return place
