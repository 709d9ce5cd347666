# SPDX-License-Identifier: Apache-2.0
"""A synthetic help desk: mails from made-up people to a made-up shop, with planted personal data.

Every user has a life (name, address, illness, relatives, bank account) and a way of writing (greeting, pet phrases,
punctuation, slips) that run through all of their mails, so a model that is tuned on it can give away both.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from faker import Faker

from reticent.core import validate
from reticent.core.record import Record, Span

KINDS = {
    "name": "PERSON", "kin": "PERSON", "doctor": "PERSON", "email": "EMAIL", "phone": "PHONE", "address": "ADDRESS",
    "order": "ORDER", "iban": "IBAN", "card": "CARD", "dob": "DATE_OF_BIRTH", "code": "ACCESS_CODE", "salary": "MONEY",
    "condition": "HEALTH", "condition2": "HEALTH", "medicine": "HEALTH",
}  # fmt: skip
"""Slots of the grammar that hold personal data → the kind of their span."""

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "7th", "9th", "12th", "15th", "18th", "21st", "23rd", "26th", "28th")
FEMALE = frozenset({"mother", "daughter", "sister", "aunt", "wife", "niece"})
DOMAINS = ("example.com", "example.org", "example.net")
_TOKEN = re.compile(r"\{(\w+)\}|(\s+)|([^\s{]+)")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")

Piece = tuple[str, str]
"""Text and the kind of personal data that it is; an empty kind for none."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """One made-up user: facts that stay the same in all mails, and a style.

    Args:
        id: of the user.
        facts: slot of the grammar → value, for all slots that are about the person.
        products: what they buy, favourites first.
        topics: what they write about, favourites first.
        style: how they write.
    """

    id: str
    facts: Mapping[str, str]
    products: tuple[str, ...]
    topics: tuple[str, ...]
    style: Style


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one user writes."""

    greetings: tuple[str, ...]
    sign_offs: tuple[str, ...]
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    prefix: str
    stop: str
    """The mark that ends a sentence."""
    lower: bool
    apostrophes: bool
    slip: float
    """Chance that a word is misspelt."""
    wordy: float
    """Chance of an aside, and of another one."""
    phrase: float
    """Chance of a pet phrase at the start and at the end."""
    asides: tuple[str, ...]
    signature: tuple[str, ...]
    currency: str
    date: str
    separator: str
    """The separator of sentences: a space, or a new line."""


def help_desk(*, users: int = 120, mails_per_user: int = 10, seed: int = 0) -> list[Record]:
    """Mails of about 30 to 65 words with spans on the personal data in them.

    The same arguments give the same mails on every machine (with the same version of Faker, which makes names and
    account numbers), and more users or mails leave the others as they are. Telephone numbers and e-mail domains are
    ones set aside for fiction.

    Args:
        users: how many people write.
        mails_per_user: how many mails each writes.
        seed: of everything.

    Returns:
        ``users * mails_per_user`` records, user by user, with ids such as ``u0007-m03``.

    Examples:
        >>> mails = help_desk(users=2, mails_per_user=3)
        >>> [mail.id for mail in mails][:2], len({mail.user for mail in mails})
        (['u0000-m00', 'u0000-m01'], 2)
        >>> mails == help_desk(users=3, mails_per_user=3)[:6]
        True
    """
    validate.positive(users=users, mails_per_user=mails_per_user)
    fakers = {locale: Faker(locale) for locale in ("en_GB", "en_US")}
    records = []
    for number in range(users):
        rng = _random(seed, "person", number)
        person = _person(number, fakers[rng.choice(("en_GB", "en_US"))], rng, seed)
        for mail in range(mails_per_user):
            mail_rng = _random(seed, "mail", number, mail)
            records.append(_record(f"{person.id}-m{mail:02d}", person, mail_rng))
    return records


def _random(*key: object) -> random.Random:
    return random.Random("/".join(map(str, ("help desk", *key))))  # noqa: S311 - reproducible, guards nothing


@cache
def _grammar() -> dict[str, Any]:
    return tomllib.loads((files("reticent.data") / "help_desk.toml").read_text(encoding="utf-8"))


def _person(number: int, fake: Faker, rng: random.Random, seed: int) -> Person:
    grammar, british = _grammar(), "en_GB" in fake.locales
    words = grammar["words"]
    fake.seed_instance(f"{seed}/{number}")
    first, last = fake.first_name(), fake.last_name()
    kin = {
        relative: fake.first_name_female() if relative in FEMALE else fake.first_name_male()
        for relative in rng.sample(words["relative"], 2)
    }
    area = rng.randrange(201, 990)
    phone = f"07700 900{rng.randrange(1000):03d}" if british else f"({area}) 555-01{rng.randrange(100):02d}"
    conditions = rng.sample(words["condition"], 2)
    facts = {
        "name": f"{first} {last}",
        "first": first,
        "email": f"{first}.{last}{rng.randrange(10, 1000)}@{rng.choice(DOMAINS)}".lower(),
        "phone": phone,
        "address": ", ".join(fake.address().splitlines()),
        "iban": fake.iban(),
        "card": fake.credit_card_number(card_type="visa"),
        "dob": _date(rng, rng.choice(("day", "month", "slash")), rng.randrange(1938, 2004)),
        "code": f"{rng.randrange(10000):04d}",
        "town": fake.city(),
        "job": rng.choice(words["job"]),
        "pet": rng.choice(words["pet"]),
        "petname": fake.first_name(),
        "doctor": fake.last_name(),
        "condition": conditions[0],
        "condition2": conditions[1],
        "medicine": rng.choice(words["medicine"]),
        "salary": f"{'£' if british else '$'}{rng.randrange(900, 5200)}",
        "courier": rng.choice(words["courier"]),
        **{f"kin {relative}": name for relative, name in kin.items()},
    }
    return Person(
        id=f"u{number:04d}",
        facts=facts,
        products=tuple(rng.sample(words["product"], 5)),
        topics=tuple(rng.sample(sorted(grammar["topic"]), 4)),
        style=_style(rng, british),
    )


def _style(rng: random.Random, british: bool) -> Style:
    style = _grammar()["style"]
    return Style(
        greetings=tuple(rng.sample(style["greeting"], 2)),
        sign_offs=tuple(rng.sample(style["sign_off"], 2)),
        openings=tuple(rng.sample(style["opening"], 3)),
        closings=tuple(rng.sample(style["closing"], 3)),
        prefix=rng.choice(style["prefix"]),
        stop=rng.choice((".", ".", ".", ".", "!", "...", "!!", " -")),
        lower=rng.random() < 0.15,
        apostrophes=rng.random() < 0.8,
        slip=rng.choice((0.0, 0.0, 0.01, 0.03)),
        wordy=rng.uniform(0.25, 0.65),
        phrase=rng.uniform(0.2, 0.7),
        asides=tuple(rng.sample(sorted(_grammar()["aside"]), 3)),
        signature=rng.choice((("name",), ("first",), ("name", "phone"), ("name", "email"), ("first", "phone"))),
        currency="£" if british else "$",
        date=rng.choice(("day", "month", "slash", "dash")),
        separator=rng.choice((" ", " ", " ", "\n")),
    )


def _record(id_: str, person: Person, rng: random.Random) -> Record:
    writer = _Writer(rng=rng, person=person)
    style, grammar = person.style, _grammar()
    topic = grammar["topic"][_favour(rng, person.topics, sorted(grammar["topic"]))]
    pieces: list[Piece] = []
    if rng.random() < 0.85:
        pieces += [(f"Subject: {style.prefix}", ""), *writer.filled(rng.choice(topic["subject"])), ("\n", "")]
    pieces += [(_favour(rng, style.greetings[:1], style.greetings), ""), ("\n", "")]
    body = [writer.sentence(rng.choice(topic["problem"]), opening=rng.random() < style.phrase)]
    for _ in range(2):
        if rng.random() < style.wordy:
            aside = grammar["aside"][_favour(rng, style.asides, sorted(grammar["aside"]))]
            body.append(writer.sentence(rng.choice(aside)))
    body.append(writer.sentence(rng.choice(topic["request"])))
    if rng.random() < style.phrase:
        body.append(writer.sentence(rng.choice(style.closings)))
    for sentence in body:
        pieces += [*sentence, (style.separator, "")]
    pieces[-1] = ("\n", "")
    pieces.append((_favour(rng, style.sign_offs[:1], style.sign_offs), ""))
    for slot in style.signature:
        pieces += [("\n", ""), (person.facts[slot], "PERSON" if slot == "first" else KINDS[slot])]
    return _joined(id_, person, pieces)


def _joined(id_: str, person: Person, pieces: list[Piece]) -> Record:
    text, spans = "", []
    for content, kind in pieces:
        if kind:
            spans.append(Span(start=len(text), end=len(text) + len(content), kind=kind))
        text += content
    return Record(id=id_, user=person.id, text=text, spans=tuple(spans))


def _favour(rng: random.Random, favourites: tuple[str, ...], others: Any) -> str:
    """Mostly one of the favourites, sometimes any."""
    return rng.choice(favourites if rng.random() < 0.75 else tuple(others))


@dataclass(kw_only=True)
class _Writer:
    """Fills templates for one mail: the same product, amount and date for the same slot within the mail."""

    rng: random.Random
    person: Person
    filled_slots: dict[str, str] = field(default_factory=dict)

    def sentence(self, template: str, *, opening: bool = False) -> list[Piece]:
        """One sentence in the person's style."""
        style = self.person.style
        pieces = [(self._slips(text) if not kind else text, kind) for text, kind in self.filled(template)]
        if opening:
            phrase = self.rng.choice(style.openings)
            text, kind = pieces[0]
            keep = kind or text.startswith("I ") or text.startswith("I'")
            pieces[0] = (text if keep else text[:1].lower() + text[1:], kind)
            pieces.insert(0, (f"{phrase} ", ""))
        elif not pieces[0][1]:
            pieces[0] = (pieces[0][0][:1].upper() + pieces[0][0][1:], "")
        last, kind = pieces[-1]
        if not kind and last.rstrip().endswith("."):
            pieces[-1] = (last.rstrip()[:-1].rstrip() + style.stop, "")
        return [(self._cased(text), kind) if not kind else (text, kind) for text, kind in pieces if text]

    def filled(self, template: str) -> list[Piece]:
        """The template with wordings chosen and slots filled, in pieces."""
        while _CHOICE.search(template):
            template = _CHOICE.sub(lambda match: self.rng.choice(match[1].split("|")), template, count=1)
        template = re.sub(r"\s+", " ", re.sub(r"\s+([.,?])", r"\1", template)).strip()
        pieces: list[Piece] = []
        for slot, space, word in _TOKEN.findall(template):
            if slot and slot not in KINDS:
                pieces += self.filled(self._value(slot))
            else:
                pieces.append((self._value(slot), KINDS[slot]) if slot else (space or word, ""))
        return _merged(pieces)

    def _value(self, slot: str) -> str:
        if slot not in self.filled_slots:
            self.filled_slots[slot] = self._fresh(slot)
        return self.filled_slots[slot]

    def _fresh(self, slot: str) -> str:
        rng, facts = self.rng, self.person.facts
        words = _grammar()["words"]
        if slot == "relative":
            return rng.choice([key.removeprefix("kin ") for key in facts if key.startswith("kin ")])
        if slot == "kin":
            return facts[f"kin {self._value('relative')}"]
        if slot == "courier":
            return _favour(rng, (facts["courier"],), words["courier"])
        if slot in facts:
            return facts[slot]
        if slot.startswith("product"):
            return _favour(rng, self.person.products, words["product"])
        if slot in _NUMBERS:
            return _NUMBERS[slot](rng, self.person.style)
        return rng.choice(words[slot.rstrip("2")])

    def _slips(self, text: str) -> str:
        """Two neighbouring letters swapped in a word here and there."""
        if not self.person.style.slip:
            return text
        words = text.split(" ")
        for index, word in enumerate(words):
            if len(word) > 4 and word.isalpha() and self.rng.random() < self.person.style.slip:
                at = self.rng.randrange(1, len(word) - 2)
                words[index] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return " ".join(words)

    def _cased(self, text: str) -> str:
        style = self.person.style
        text = text if style.apostrophes else text.replace("'", "")
        return text.lower() if style.lower else text


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbouring pieces without personal data made one."""
    merged: list[Piece] = []
    for text, kind in pieces:
        if merged and not kind and not merged[-1][1]:
            merged[-1] = (merged[-1][0] + text, "")
        else:
            merged.append((text, kind))
    return merged


def _date(rng: random.Random, form: str, year: int | None = None) -> str:
    day, month = rng.randrange(1, 29), rng.randrange(12)
    tail = f" {year}" if year else ""
    return {
        "day": f"{day} {MONTHS[month]}{tail}",
        "month": f"{MONTHS[month]} {day}{',' if year else ''}{tail}",
        "slash": f"{day:02d}/{month + 1:02d}{f'/{year}' if year else ''}",
        "dash": f"{day}-{MONTHS[month][:3]}",
    }[form]


def _amount(rng: random.Random, style: Style) -> str:
    return f"{style.currency}{rng.randrange(6, 640)}" + rng.choice(("", f".{rng.randrange(100):02d}"))


_NUMBERS: Mapping[str, Callable[[random.Random, Style], str]] = {
    "order": lambda rng, style: f"BW-{rng.randrange(10**6):06d}",
    "amount": _amount,
    "amount2": _amount,
    "small": lambda rng, style: str(rng.randrange(2, 20)),
    "small2": lambda rng, style: str(rng.randrange(2, 20)),
    "date": lambda rng, style: _date(rng, style.date),
    "month": lambda rng, style: rng.choice(MONTHS),
    "weekday": lambda rng, style: rng.choice(WEEKDAYS),
    "ordinal": lambda rng, style: rng.choice(ORDINALS),
    "clock": lambda rng, style: f"{rng.randrange(1, 12)}:{rng.randrange(12) * 5:02d}",
    "reading": lambda rng, style: f"{rng.randrange(95, 190)} over {rng.randrange(55, 110)}",
    "reading2": lambda rng, style: f"{rng.randrange(95, 190)} over {rng.randrange(55, 110)}",
}
"""Slots that are numbers → how to make one."""
