# SPDX-License-Identifier: Apache-2.0
"""Card and account numbers with right check digits that are nobody's."""

from __future__ import annotations

from stdnum import luhn

from reticent.data.pii.detectors.card_number import issuer
from reticent.data.pii.detectors.iban import LENGTHS, remainder
from reticent.data.pii.surrogate import Draw, digits_in, letters_and_digits, same_shape, surrogate

TEST_RANGES = {
    "Visa": "400000",
    "Mastercard": "555555",
    "American Express": "378282",
    "Discover": "601111",
    "Diners Club": "305693",
    "JCB": "356600",
    "UnionPay": "620000",
}
"""First digits of the numbers that payment processors publish for testing. Of other issuers a 9, which no card has."""


@surrogate("CARD", canonical=letters_and_digits)
def card(original: str, draw: Draw) -> str:
    """A number of the same issuer's test range, length and layout, with a right check digit."""
    given = letters_and_digits(original)
    if not (given.isascii() and given.isdigit()):
        return same_shape(original, draw)
    head = TEST_RANGES.get(issuer(given) or "", "999999")
    body = head + draw.digits(max(0, len(given) - len(head) - 1))
    return digits_in(original, body + luhn.calc_check_digit(body))


@surrogate("IBAN")
def iban(original: str, draw: Draw) -> str:
    """Of the same country and layout with right check digits, at a bank (XXXX or 0000) that there is not."""
    given = letters_and_digits(original).upper()
    if LENGTHS.get(given[:2]) != len(given) or not given.isascii():
        return same_shape(original, draw)
    bank = "".join("X" if char.isalpha() else "0" for char in given[4:8])
    body = bank + "".join(draw.digits(1) if char.isdigit() else "X" for char in given[8:])
    check = 98 - remainder(f"{given[:2]}00{body}")
    chars = iter(f"{given[:2]}{check:02d}{body}")
    number = "".join(next(chars) if char.isalnum() else char for char in original)
    return number.lower() if original.islower() else number
