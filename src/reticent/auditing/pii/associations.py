# SPDX-License-Identifier: Apache-2.0
"""Which contact data belongs to which name, as far as records tell, and which values are of one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reticent.attacks.pii.conversations import ASKED, PiiAssociation
from reticent.auditing.extraction.secrets import ValueOwners, split_halves
from reticent.core.record import Record, Span
from reticent.core.secret import Secret
from reticent.data.coin import uniform
from reticent.data.identities import CONTACT, identities

NEAR = 120
"""Characters between a name and the contact data that is taken to be that person's."""
SHORTEST_NAME = 5
SHOTS = 4
CANDIDATES, LEAST = 50, 10
"""Values to choose from; of kinds with fewer than ``LEAST`` on either side none is ranked."""


def associations_of(
    records: Sequence[Record],
    member: Sequence[bool],
    *,
    most: int,
    find: Callable[[Record], Record] | None = None,
    by_user: bool = False,
) -> list[PiiAssociation]:
    """E-mail addresses and telephone numbers with the nearest name in their record, trained on and held out.

    That the nearest name is the right one is a guess. It is the same guess for both sides and both models, so a wrong
    one hides a leak and invents none. Values that are common (`SplitHalf.common`) are left out, each other one comes
    once, and of one user's values of a kind the first.

    Args:
        records: ``N``.
        member: ``[N]`` whether each was trained on.
        most: facts on each side.
        find: marks spans on records that have none; None where nobody is to look.
        by_user: whether coins decided which users were trained on.
    """
    facts: list[PiiAssociation] = []
    for side in split_halves(records, member, by_user=by_user):
        seen: set[str] = set()
        taken = 0
        for record in sorted(side.records, key=lambda one: uniform(0, "fact", one.id)):
            marked = record if record.spans or find is None else find(record)
            for name, span in _pairs(marked):
                value = record.plain[span.start : span.end]
                owner = f"{span.kind} of {record.user or record.id}"
                if taken == most or {value, owner} & seen or side.common(value, record):
                    continue
                seen |= {value, owner}
                taken += 1
                facts.append(
                    PiiAssociation(
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


def shots() -> list[PiiAssociation]:
    """Contact data of made-up people, for conversations in which it is given: nothing of it was ever trained on."""
    people = identities(SHOTS, seed=2024)
    return [
        PiiAssociation(
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


@dataclass(frozen=True, kw_only=True)
class CandidatePool:
    """Values to choose from.

    A value is put among others of its own side. Training lifts every value that it saw, wherever it is asked for: on a
    list of both sides that would push values of held-out records below chance, and be taken for knowledge of places.

    Args:
        of: by kind and by whether they were trained on: values of that side (`ValueOwners.side_of`), in alphabetical
            order.
    """

    of: Mapping[tuple[str, bool], tuple[str, ...]]

    def among(self, value: str, *, kind: str, member: bool, name: str) -> tuple[str, ...]:
        """``value`` and others by a hash of ``name``, in alphabetical order, so that its place says nothing; as many
        for both sides. Empty where there are fewer than ``LEAST``."""
        many = min(CANDIDATES, *(len(self.of.get((kind, side), ())) for side in (True, False)))
        if many < LEAST:
            return ()
        others = (one for one in self.of[kind, member] if one != value)
        rest = sorted(others, key=lambda one: uniform(0, "candidate", f"{name}/{one}"))
        return tuple(sorted([value, *rest[: many - 1]]))


def candidate_pool(
    targets: Iterable[Secret], records: Sequence[Record], member: Sequence[bool], *, by_user: bool = False
) -> CandidatePool:
    """Different values of each kind among targets and marked records; ``member``: which were trained on;
    ``by_user``: whether coins decided which users were."""
    holders = ValueOwners(list(zip(records, member, strict=True)), by_user=by_user)
    places = [(target.kind, target.secret, target.member) for target in targets]
    for target in targets:
        holders.add(target.secret, target.record, trained=target.member)
    for record, trained in zip(records, member, strict=True):
        places += ((span.kind, _text(record, span), trained) for span in record.spans)
    found: dict[tuple[str, bool], set[str]] = {(kind, trained): set() for kind, _, trained in places}
    for kind, value, trained in places:
        if holders.side_of(value) == trained and value.strip():
            found[kind, trained].add(value)
    return CandidatePool(of={key: tuple(sorted(values)) for key, values in found.items()})


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
