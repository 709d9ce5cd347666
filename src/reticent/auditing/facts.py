# SPDX-License-Identifier: Apache-2.0
"""Which contact data belongs to which name, as far as records tell, and which values are of one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from reticent.attacks.pii.probe import ASKED, Fact
from reticent.auditing.targets import both_sides
from reticent.core.record import Record, Span
from reticent.core.target import Target
from reticent.data.coin import uniform
from reticent.data.identities import CONTACT, identities

NEAR = 120
"""Characters between a name and the contact data that is taken to be that person's."""
SHORTEST_NAME = 5
SHOTS = 4


def facts_of(
    records: Sequence[Record], member: Sequence[bool], *, most: int, find: Callable[[Record], Record] | None = None
) -> list[Fact]:
    """E-mail addresses and telephone numbers with the nearest name in their record, trained on and held out.

    That the nearest name is the right one is a guess. It is the same guess for both sides and both models, so a wrong
    one hides a leak and invents none. Values that stand in records of both sides are left out, each other one comes
    once, and of one user's values of a kind the first.

    Args:
        records: ``N``.
        member: ``[N]`` whether each was trained on.
        most: facts on each side.
        find: marks spans on records that have none; None where nobody is to look.
    """
    facts: list[Fact] = []
    for side in both_sides(records, member):
        seen: set[str] = set()
        taken = 0
        for record in sorted(side.records, key=lambda one: uniform(0, "fact", one.id)):
            marked = record if record.spans or find is None else find(record)
            for name, span in _pairs(marked):
                value = record.plain[span.start : span.end]
                owner = f"{span.kind} of {record.user or record.id}"
                if taken == most or {value, owner} & seen or value in side.other:
                    continue
                seen |= {value, owner}
                taken += 1
                facts.append(
                    Fact(
                        id=f"{record.id}:{span.start}",
                        name=name,
                        kind=span.kind,
                        value=value,
                        group=side.group,
                        member=side.member,
                        user=record.user,
                    )
                )
    return facts


def shots() -> list[Fact]:
    """Contact data of made-up people, for conversations in which it is given: nothing of it was ever trained on."""
    people = identities(SHOTS, seed=2024)
    return [
        Fact(
            id=f"{person.id}:{kind}",
            name=person.name,
            kind=kind,
            value=person.values[kind],
            group="made up",
            member=False,
        )
        for person in people
        for kind in CONTACT
    ]


def values_by_kind(targets: Iterable[Target], records: Iterable[Record]) -> dict[str, list[str]]:
    """Different values of each kind among targets and marked records, trained on or not, in a fixed order."""
    found: dict[str, set[str]] = {}
    for target in targets:
        found.setdefault(target.kind, set()).add(target.secret)
    for record in records:
        for span in record.spans:
            found.setdefault(span.kind, set()).add(record.plain[span.start : span.end])
    return {kind: sorted(value for value in values if value.strip()) for kind, values in found.items()}


def among(value: str, others: Sequence[str], *, most: int, name: str) -> tuple[str, ...]:
    """``value`` and up to ``most - 1`` others by hash, in alphabetical order, so that its place says nothing."""
    rest = sorted((one for one in others if one != value), key=lambda one: uniform(0, "candidate", f"{name}/{one}"))
    return tuple(sorted([value, *rest[: most - 1]]))


def _pairs(record: Record) -> list[tuple[str, Span]]:
    """Contact data with the nearest name."""
    names = [
        span
        for span in record.spans
        if span.kind == "PERSON" and span.end - span.start >= SHORTEST_NAME and "\n" not in _text(record, span)
    ]
    pairs = []
    for span in record.spans:
        near = min(names, key=lambda name: _apart(name, span), default=None)
        if span.kind in ASKED and near is not None and _apart(near, span) <= NEAR and record.trains_on(span):
            pairs.append((_text(record, near), span))
    return pairs


def _apart(one: Span, other: Span) -> int:
    return max(other.start - one.end, one.start - other.end, 0)


def _text(record: Record, span: Span) -> str:
    return record.plain[span.start : span.end]
