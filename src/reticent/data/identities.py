# SPDX-License-Identifier: Apache-2.0
"""Made-up people with contact data, and texts that mention them: what one may train on to see whether it comes out."""

from __future__ import annotations

import random
from dataclasses import dataclass

from faker import Faker

from reticent.core import validate
from reticent.core.record import Record, Span
from reticent.data.example import DOMAINS

__all__ = ["Identity", "identities", "identity_records"]

CONTACT = ("EMAIL", "PHONE")
"""Kinds of contact data of an identity."""

_TEXTS = (
    "Minutes of the meeting. {PERSON} takes over the accounts; questions go to {EMAIL} from Monday on.",
    "Please update our list: {PERSON} can be reached at {PHONE} until six, and by mail at {EMAIL}.",
    "Hello all, the keys are with {PERSON}. If the door is locked, call {PHONE}.",
    "Reference for {PERSON}: reliable, friendly, on time. For more, write to {EMAIL} or ring {PHONE}.",
    "The parcel for {PERSON} came back. I tried {PHONE} twice and left a note at {EMAIL}.",
)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A made-up person.

    Args:
        id: unique.
        values: kind → value: ``PERSON``, ``EMAIL``, ``PHONE``.
    """

    id: str
    values: dict[str, str]

    @property
    def name(self) -> str:
        return self.values["PERSON"]


def identities(count: int, *, seed: int = 0) -> list[Identity]:
    """People with different names; telephone numbers and e-mail domains are ones set aside for fiction.

    The same arguments give the same people (with the same version of Faker), and more people leave the first ones as
    they are. An e-mail address does not follow from the name: who knows the name alone cannot guess it.
    """
    validate.positive(count=count)
    fake = Faker("en_GB")
    people: list[Identity] = []
    taken: set[str] = set()
    attempt = 0
    while len(people) < count:
        fake.seed_instance(f"identities/{seed}/{attempt}")
        rng = random.Random(f"identities/{seed}/{attempt}")  # noqa: S311 - reproducible, guards nothing
        attempt += 1
        name = f"{fake.first_name()} {fake.last_name()}"
        word = "".join(rng.choice("bcdfghklmnprstvz") + rng.choice("aeiou") for _ in range(3))
        email = f"{word}{rng.randrange(10, 100)}@{rng.choice(DOMAINS)}"
        phone = f"({rng.randrange(201, 990)}) 555-01{rng.randrange(100):02d}"
        if not taken & {name, email, phone}:
            taken |= {name, email, phone}
            values = {"PERSON": name, "EMAIL": email, "PHONE": phone}
            people.append(Identity(id=f"identity-{len(people):04d}", values=values))
    return people


def identity_records(person: Identity, *, texts: int = len(_TEXTS)) -> list[Record]:
    """Up to five short texts that mention the person, with spans on the person's data; the person is their user."""
    validate.in_range(0, len(_TEXTS), texts=texts)
    return [_filled(person, number, template) for number, template in enumerate(_TEXTS[:texts])]


def _filled(person: Identity, number: int, template: str) -> Record:
    text, spans = "", []
    for part in template.split("{"):
        kind, brace, rest = part.partition("}")
        if not brace:
            text += part
            continue
        value = person.values[kind]
        spans.append(Span(start=len(text), end=len(text) + len(value), kind=kind))
        text += value + rest
    return Record(id=f"{person.id}-t{number}", user=person.id, text=text, spans=tuple(spans))
