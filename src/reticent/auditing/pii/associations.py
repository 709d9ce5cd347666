# SPDX-License-Identifier: Apache-2.0
"""Associations of names with contact data in the records, and the pool of candidate values of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reticent.attacks.pii.conversations import ASKED, PiiAssociation
from reticent.auditing.extraction.secrets import SplitHalf, ValueOwners, split_halves
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
        member: ``[N]``, True where the record was trained on.
        most: associations on each side.
        find: marks spans on records that have none; None leaves such records out.
        by_user: coins decided which users were trained on, not which records.
    """
    associations: list[PiiAssociation] = []
    for half in split_halves(records, member, by_user=by_user):
        seen: set[str] = set()
        count = 0
        for record in sorted(half.records, key=lambda record: uniform(0, "fact", record.id)):
            marked = record if record.spans or find is None else find(record)
            for name, span in _pairs(marked):
                value = _text(record, span)
                owner = f"{span.kind} of {record.user or record.id}"
                if count == most or {value, owner} & seen or half.common(value, record):
                    continue
                seen |= {value, owner}
                count += 1
                associations.append(_association(record, name, span, half))
    return associations


def _association(record: Record, name: str, span: Span, half: SplitHalf) -> PiiAssociation:
    return PiiAssociation(
        id=f"{record.id}:{span.start}",
        name=name,
        kind=span.kind,
        value=_text(record, span),
        group=half.group,
        member=half.member,
        user=record.user,
    )


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

    A value is put among others of its own side. Training makes every value that it saw likelier in any context: in a
    pool of both sides, values of held-out records would rank below chance, and trained ones above it without any
    association.

    Args:
        of: by kind and side (True: trained on): values of that side (`ValueOwners.side_of`), in alphabetical
            order.
    """

    of: Mapping[tuple[str, bool], tuple[str, ...]]

    def among(self, value: str, *, kind: str, member: bool, name: str) -> tuple[str, ...]:
        """``value`` and others chosen by a hash of ``name``, in alphabetical order, so that the order says nothing; as
        many for both sides. Empty where there are fewer than ``LEAST``."""
        size = min(CANDIDATES, *(len(self.of.get((kind, trained), ())) for trained in (True, False)))
        if size < LEAST:
            return ()
        others = (candidate for candidate in self.of[kind, member] if candidate != value)
        rest = sorted(others, key=lambda candidate: uniform(0, "candidate", f"{name}/{candidate}"))
        return tuple(sorted([value, *rest[: size - 1]]))


def candidate_pool(
    secrets: Iterable[Secret], records: Sequence[Record], member: Sequence[bool], *, by_user: bool = False
) -> CandidatePool:
    """Different values of each kind among secrets and marked records.

    Args:
        secrets: values in their records.
        records: ``N``, with marked spans.
        member: ``[N]``, True where the record was trained on.
        by_user: coins decided which users were trained on, not which records.
    """
    holders = ValueOwners(list(zip(records, member, strict=True)), by_user=by_user)
    occurrences = [(secret.kind, secret.secret, secret.member) for secret in secrets]
    for secret in secrets:
        holders.add(secret.secret, secret.record, trained=secret.member)
    for record, trained in zip(records, member, strict=True):
        occurrences += ((span.kind, _text(record, span), trained) for span in record.spans)
    pool: dict[tuple[str, bool], set[str]] = {(kind, trained): set() for kind, _, trained in occurrences}
    for kind, value, trained in occurrences:
        if holders.side_of(value) == trained and value.strip():
            pool[kind, trained].add(value)
    return CandidatePool(of={key: tuple(sorted(values)) for key, values in pool.items()})


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


def _apart(span: Span, other: Span) -> int:
    return max(other.start - span.end, span.start - other.end, 0)


def _text(record: Record, span: Span) -> str:
    return record.plain[span.start : span.end]
