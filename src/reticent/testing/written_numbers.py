# SPDX-License-Identifier: Apache-2.0
"""Made-up numbers and addresses as people paste them: odd blanks and hyphens, line breaks, beside other scripts.

For tests and for `benchmarks/pii_detection.py`: what the public sets of personal data do not have.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from stdnum import luhn

from reticent.core.record import Span
from reticent.data.pii.detectors.iban import remainder

SEPARATORS = {
    "blank": " ",
    "hyphen": "-",
    "no-break blank": "\u00a0",
    "narrow no-break blank": "\u202f",
    "thin blank": "\u2009",
    "figure blank": "\u2007",
    "ideographic blank": "\u3000",
    "no-break hyphen": "\u2011",
    "hyphen (Unicode)": "\u2010",
    "figure dash": "\u2012",
    "en dash": "\u2013",
    "minus": "\u2212",
    "dash between blanks": " \u2013 ",
    "two blanks": "  ",
    "three blanks": "   ",
    "tab": "\t",
    "line break": "\n",
    "line break of Windows": "\r\n",
    "line break in a quotation": "\n> ",
    "hyphen and line break": "-\n",
    "blank and zero-width blank": " \u200b",
    "HTML no-break blank": "&nbsp;",
    "underscore": "_",
}
"""Name → what stands between the groups of a number."""
AROUND = {
    "English": ("Please note the {cue} ", ", and write it down."),
    "line": ("{cue}: ", "\n"),
    "brackets": ("our {cue} (", ") is right"),
    "Chinese": ("\u6211\u7684{cue}\u662f", "\u8bf7\u8bb0\u4e0b"),
    "Japanese": ("{cue}\u306f", "\u3067\u3059"),
    "Korean": ("\uc81c {cue} \ubc88\ud638\ub294", "\uc785\ub2c8\ub2e4"),
    "Thai": ("{cue}\u0e02\u0e2d\u0e07\u0e09\u0e31\u0e19", "\u0e04\u0e23\u0e31\u0e1a"),
    "underscores": ("{cue}_", "_x"),
    "marks": ("{cue} \u201c", "\u201d!"),
}
"""Script or form → what stands before and behind; a word for the number goes in."""
INVISIBLE = ("", "\u200b", "\u00ad", "\u2060", "\ufeff", "\u200e")


@dataclass(frozen=True, kw_only=True)
class WrittenNumber:
    """A text with one value.

    Args:
        text: all of it.
        span: the value, without what is around it.
        separator: name of what stands between its groups; "invisible characters", "wide digits" or "plain" without.
        around: name of the script or form around it.
    """

    text: str
    span: Span
    separator: str
    around: str


def written_numbers(n: int, *, seed: int) -> list[WrittenNumber]:
    """``n`` texts, all kinds, separators and surroundings about as often: the same for the same seed.

    >>> [one.span.kind for one in written_numbers(3, seed=0)]
    ['CARD', 'PHONE', 'US_SSN']
    """
    draw = random.Random(seed)  # noqa: S311 - made-up data
    kinds = tuple(_GROUPS)
    return [_numbers(draw, kinds[number % len(kinds)]) for number in range(n)]


def written_addresses(n: int, *, seed: int) -> list[WrittenNumber]:
    """``n`` texts with an e-mail or IP address, some of internationalised domains or with invisible characters."""
    draw = random.Random(seed)  # noqa: S311 - made-up data
    return [_address(draw) for _ in range(n)]


def _numbers(draw: random.Random, kind: str) -> WrittenNumber:
    groups, cue, plain = _GROUPS[kind](draw)
    odd = draw.random()
    if odd < 0.1:
        separator, value = "wide digits", plain.join(groups).translate(_WIDE)
    elif odd < 0.2:
        separator, value = "invisible characters", draw.choice(INVISIBLE[1:]).join(plain.join(groups))
    else:
        separator = draw.choice(list(SEPARATORS))
        value = SEPARATORS[separator].join(groups)
    return _set_in(draw, value, kind=kind, cue=cue, separator=separator)


def _set_in(draw: random.Random, value: str, *, kind: str, cue: str, separator: str) -> WrittenNumber:
    """An underscore may be a part of an e-mail address, so that none stands beside one."""
    around = draw.choice([name for name in AROUND if kind != "EMAIL" or name != "underscores"])
    before, behind = AROUND[around]
    before = before.format(cue=cue)
    span = Span(start=len(before), end=len(before) + len(value), kind=kind)
    return WrittenNumber(text=before + value + behind, span=span, separator=separator, around=around)


def _digits(draw: random.Random, n: int) -> str:
    return "".join(str(draw.randrange(10)) for _ in range(n))


def _cut(number: str, *lengths: int) -> list[str]:
    ends = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    return [number[a:b] for a, b in pairwise(ends)]


def _card(draw: random.Random) -> tuple[list[str], str, str]:
    head, lengths = draw.choice((("4", (4, 4, 4, 4)), ("53", (4, 4, 4, 4)), ("37", (4, 6, 5)), ("62", (4, 4, 4, 4))))
    body = head + _digits(draw, sum(lengths) - len(head) - 1)
    return _cut(body + luhn.calc_check_digit(body), *lengths), "card", draw.choice((" ", "-", ""))


def _phone(draw: random.Random) -> tuple[list[str], str, str]:
    area = draw.choice(("212", "713", "415", "303"))
    local = ["555", "01" + _digits(draw, 2)]
    forms = (
        [area, *local],
        ["1", area, *local],
        ["+1", area, *local],
        [f"({area})", *local],
        ["+44", "20", "7946", "0" + _digits(draw, 3)],
        ["+49", "30", "23125", _digits(draw, 3)],
        ["01", "99", "00", _digits(draw, 2), _digits(draw, 2)],
        ["+86", "138", "0013", "8" + _digits(draw, 3)],
    )
    return draw.choice(forms), "phone", draw.choice((" ", "-"))


def _ssn(draw: random.Random) -> tuple[list[str], str, str]:
    groups = [f"{draw.randrange(100, 600)}", f"{draw.randrange(1, 99):02d}", f"{draw.randrange(1, 9999):04d}"]
    return groups, "SSN", draw.choice((" ", "-"))


def _iban(draw: random.Random) -> tuple[list[str], str, str]:
    country, body = draw.choice((("DE", _digits(draw, 18)), ("GB", "WEST" + _digits(draw, 14))))
    number = f"{country}{98 - remainder(f'{country}00{body}'):02d}{body}"
    return [number[i : i + 4] for i in range(0, len(number), 4)], "IBAN", draw.choice((" ", ""))


def _born(draw: random.Random) -> tuple[list[str], str, str]:
    day, month, year = draw.randrange(1, 29), draw.randrange(1, 13), draw.randrange(1940, 2005)
    forms = (
        [f"{day:02d}", f"{month:02d}", str(year)],
        [str(year), f"{month:02d}", f"{day:02d}"],
        [str(day), draw.choice(("March", "May", "Oct")), str(year)],
    )
    return draw.choice(forms), "DOB", "-"


def _cpf(draw: random.Random) -> tuple[list[str], str, str]:
    body = _digits(draw, 9)
    number = body
    for _ in range(2):
        weighed = sum((len(number) + 1 - place) * int(digit) for place, digit in enumerate(number))
        number += str(-weighed % 11 % 10)
    return [f"{number[:3]}.{number[3:6]}.{number[6:9]}", number[9:]], "CPF", "-"


_GROUPS: dict[str, Callable[[random.Random], tuple[list[str], str, str]]] = {
    "CARD": _card,
    "PHONE": _phone,
    "US_SSN": _ssn,
    "IBAN": _iban,
    "DATE_OF_BIRTH": _born,
    "NATIONAL_ID": _cpf,
}
_WIDE = {ord("0") + n: 0xFF10 + n for n in range(10)}


def _address(draw: random.Random) -> WrittenNumber:
    if draw.random() < 0.25:
        host = f"{draw.choice(('192.0.2', '198.51.100', '203.0.113'))}.{draw.randrange(1, 255)}"
        return _set_in(draw, host, kind="IP_ADDRESS", cue="IP", separator="plain")
    name = draw.choice(("ana.lee", "bo_quill", "vera+x", "j.m\u00fcller", "o'neil"))
    host = draw.choice(
        ("example.org", "mail.example.co.uk", "xn--80ak6aa92e.com", "xn--e1afmkfd.xn--p1ai", "b\u00fccher.example",
         "\u4f8b\u5b50.\u4e2d\u56fd", "\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444")
    )  # fmt: skip
    hidden = draw.choice(INVISIBLE)
    value = f"{name}@{hidden}{host[:3]}{hidden}{host[3:]}"
    return _set_in(draw, value, kind="EMAIL", cue="mail", separator="invisible characters" if hidden else "plain")
