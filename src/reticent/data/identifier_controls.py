# SPDX-License-Identifier: Apache-2.0
"""Controls for an identifier: values that could as well have been given in its place.

An identifier is an issuer's prefix, characters that are as good as drawn at random, and sometimes check digits. Only
the random ones are drawn anew; check digits are made right again. So real values and controls come from one
distribution, and a model that never saw a value cannot tell it from its controls, whatever it knows of prefixes and
forms.

Not every kind has such characters. Names, e-mail addresses, passwords, PINs and dates are chosen by people or follow
from their lives: of these no control is fair, and none is made.

The surrogates of `data.pii` serve another end: they lie in ranges that belong to nobody, where real values never are,
and a model could tell. Their keyed draws are used here too.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stdnum import iban as stdnum_iban
from stdnum import luhn

from reticent.data.pii.detect import find
from reticent.data.pii.detector import Detector
from reticent.data.pii.detectors.iban import LENGTHS, remainder
from reticent.data.pii.surrogate import Draw, digits_in, letters_and_digits

CHOSEN = {
    "ACCESS_CODE", "ADDRESS", "DATE_OF_BIRTH", "EMAIL", "IP_ADDRESS", "LOCATION", "ORGANISATION", "PASSWORD", "PERSON",
    "PRIVATE_KEY", "SCRUBBED", "URL_CREDENTIALS",
}  # fmt: skip
"""Kinds whose characters are not drawn at random."""
HASHES = {
    "HASH": r"(?<![0-9A-Za-z])("
    r"(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{16,128}|(?=[0-9]*[A-F])(?=[A-F]*[0-9])[0-9A-F]{16,128}"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})(?![0-9A-Za-z])"
}
"""Digests, commit ids and random UUIDs, for `pattern_detectors`."""
LEAST_SPACE = 10_000
"""So many values a form must allow: with fewer, controls run out and neighbours are in use."""
TRIES = 200
"""Draws for each control that is kept, at most: of national numbers 1 in 97 has right check digits."""

_EXTENSION = re.compile(r",?\s?(?:x|ext\.?|extension)\s?[0-9]+$", re.IGNORECASE)
_RUN = re.compile(r"[0-9A-Za-z]{16,}")
_DIGITS, _LOWER, _UPPER = string.digits, string.ascii_lowercase, string.ascii_uppercase


@dataclass(frozen=True, kw_only=True)
class Form:
    """The free part of a value.

    Args:
        free: places of the characters that are drawn anew, rising.
        options: for each of them what it may be.
        repair: makes check digits right.
    """

    free: tuple[int, ...]
    options: tuple[str, ...]
    repair: Callable[[str], str] = lambda value: value

    @property
    def space(self) -> float:
        """How many values there are of this form, check digits left out."""
        size = 1.0
        for some in self.options:
            size *= len(some)
        return size

    def free_part(self, value: str) -> str:
        """The free characters of a value, folded."""
        return "".join(value[place] for place in self.free).casefold()


def form_of(kind: str, value: str) -> Form | None:
    """The free part of the value; None where there is none, or too little for a fair control.

    >>> form_of("PHONE", "+1 (212) 555-0123").free_part("+1 (212) 555-0123")
    '0123'
    >>> form_of("EMAIL", "ana@example.org") is None
    True

    Args:
        kind: of the span, such as ``"CARD"``. Of unknown kinds only long mixes of letters and digits count as random.
        value: as it stands in the text.
    """
    if kind in CHOSEN or not value.isascii():
        return None
    form = _RULES.get(kind, _other)(value)
    return form if form is not None and form.space >= LEAST_SPACE else None


def controls(kind: str, value: str, *, count: int, key: bytes, detectors: Sequence[Detector]) -> tuple[str, ...]:
    """``count`` different values of the same form, none of them the value; empty where there are not so many.

    Where detectors take the value by itself for one of its kind, they must take each control for one too: that is how
    check digits and numbering plans are kept.

    Args:
        kind: of the value.
        value: the real one.
        count: how many.
        key: of the draws, 16 to 64 bytes.
        detectors: that found it.
    """
    form = form_of(kind, value)
    if form is None:
        return ()
    draw = Draw(key, f"{kind}\0{value}")
    detectors = [detector for detector in detectors if kind in detector.kinds]
    recognized = _is_one(kind, value, detectors)
    values: dict[str, None] = {}
    for _ in range(TRIES * count):
        drawn = list(value)
        for place, options in zip(form.free, form.options, strict=True):
            drawn[place] = draw.choice(options)
        control = form.repair("".join(drawn))
        if control != value and control not in values and (not recognized or _is_one(kind, control, detectors)):
            values[control] = None
            if len(values) == count:
                return tuple(values)
    return ()


def _is_one(kind: str, value: str, detectors: Sequence[Detector]) -> bool:
    national = kind != "IBAN" or stdnum_iban.is_valid(value)
    return national and any((s.start, s.end, s.kind) == (0, len(value), kind) for s in find(value, detectors))


# ---- forms ------------------------------------------------------------------------------------------------------


def _last_digits(value: str, count: int, keep: int, skip: int = 0) -> Form | None:
    """The last ``count`` digits but ``skip``, where at least ``keep`` letters or digits stand before them."""
    places = [place for place, char in enumerate(value) if char in _DIGITS]
    free = tuple(places[len(places) - count - skip : len(places) - skip]) if len(places) >= count + skip else ()
    if not free or len(letters_and_digits(value[: free[0]])) < keep:
        return None
    return Form(free=free, options=(_DIGITS,) * count)


def _phone(value: str) -> Form | None:
    """The last four digits of the number: the line, behind country, area and exchange."""
    return _last_digits(_EXTENSION.sub("", value), 4, keep=3)


def _number(value: str) -> Form | None:
    """The last six of nine digits or more, else the last four of at least six."""
    digits = sum(char in _DIGITS for char in value)
    return _last_digits(value, 6 if digits >= 9 else 4, keep=2)


def _card(value: str) -> Form | None:
    """The digits between the issuer's eight and the check digit."""
    places = [place for place, char in enumerate(value) if char in _DIGITS]
    free = tuple(places[8:-1])

    def repair(text: str) -> str:
        digits = letters_and_digits(text)[:-1]
        return digits_in(text, digits + luhn.calc_check_digit(digits))

    return Form(free=free, options=(_DIGITS,) * len(free), repair=repair) if len(places) >= 12 else None


def _iban(value: str) -> Form | None:
    """The last six digits of the account, behind country, check digits and bank."""
    plain = letters_and_digits(value).upper()
    if LENGTHS.get(plain[:2]) != len(plain):
        return None
    check_digits = _last_digits(value, 6, keep=8)

    def repair(text: str) -> str:
        bare = letters_and_digits(text).upper()
        check = iter(f"{98 - remainder(f'{bare[:2]}00{bare[4:]}'):02d}")
        places = [place for place, char in enumerate(text) if char.isalnum()][2:4]
        return "".join(next(check) if place in places else char for place, char in enumerate(text))

    return None if check_digits is None else Form(free=check_digits.free, options=check_digits.options, repair=repair)


def _mac(value: str) -> Form | None:
    """The device's half, behind the maker's."""
    places = [place for place, char in enumerate(value) if char in string.hexdigits]
    return _drawn_like(value, places[6:], hexadecimal=True) if len(places) == 12 else None


def _token(value: str) -> Form | None:
    """Ten characters of the last run of 16 or more; its last six are left, for some issuers put a checksum there."""
    runs = list(_RUN.finditer(value))
    if not runs:
        return None
    start, end = runs[-1].span()
    return _drawn_like(value, range(end - 16, end - 6), hexadecimal=_is_hexadecimal(value[start:end]))


def _hash(value: str) -> Form | None:
    """The last twelve characters."""
    return _drawn_like(value, range(len(value) - 12, len(value)), hexadecimal=True) if len(value) >= 16 else None


def _wallet(value: str) -> Form | None:
    """Ethereum in one case: Bitcoin's addresses, and mixed case, hold a checksum that would have to be made right."""
    one_case = value[2:] in (value[2:].lower(), value[2:].upper())
    return _hash(value) if value.startswith("0x") and one_case else None


def _other(value: str) -> Form | None:
    """A long mix of letters and digits; figures may be dates or counters, so they are left."""
    mixed = any(char.isdigit() for char in value) and any(char.isalpha() for char in value)
    return _token(value) if mixed else None


def _drawn_like(value: str, places: Sequence[int], *, hexadecimal: bool) -> Form:
    """A digit for a digit and a letter for a letter of its case. Given which places hold digits, that is uniform."""
    last = 6 if hexadecimal else 26
    options = tuple(
        _DIGITS if value[place].isdigit() else (_UPPER if value[place].isupper() else _LOWER)[:last] for place in places
    )
    return Form(free=tuple(places), options=options)


def _is_hexadecimal(run: str) -> bool:
    return run in (run.lower(), run.upper()) and set(run.lower()) <= set("0123456789abcdef")


_RULES: dict[str, Callable[[str], Form | None]] = {
    "API_KEY": _token,
    "CARD": _card,
    "CRYPTO_WALLET": _wallet,
    "HASH": _hash,
    "IBAN": _iban,
    "MAC_ADDRESS": _mac,
    "PHONE": _phone,
    **dict.fromkeys(
        ("BANK_ACCOUNT", "DRIVER_LICENCE", "INSURANCE", "MEDICAL_RECORD", "NATIONAL_ID", "PASSPORT", "UK_NINO"), _number
    ),
    "US_SSN": lambda value: _last_digits(value, 4, keep=5),
}
