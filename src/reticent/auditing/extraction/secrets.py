# SPDX-License-Identifier: Apache-2.0
"""The secrets of an extraction audit: planted ones, given ones, and personal data of trained and held-out records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from reticent.core.record import Record, Span
from reticent.core.secret import Secret
from reticent.data.canaries import NOT_PLANTED, Canary, named_tier
from reticent.data.coin import uniform
from reticent.data.pii import SCRUBBED

T = TypeVar("T")

CONTROL = ", held out (control)"
"""Ends the name of a group of secrets that were not trained on."""
TRAINED = "personal data, trained on"
HELD_OUT = f"personal data{CONTROL}"
SHORTEST = 4
"""Least characters of a marked value that counts as a secret: shorter ones are guessed."""


def canary_secrets(canaries: Sequence[Canary], *, most: int) -> list[Secret]:
    """One secret for each canary, in groups by number of copies, the rarest first.

    Controls and secrets whose coin left them out are one group, never planted: of these the first ``most`` by hash.
    """
    planted = sorted((canary for canary in canaries if canary.planted), key=lambda canary: canary.repetitions)
    others = _some([canary for canary in canaries if not canary.planted], lambda canary: canary.id, most)
    return [
        Secret(
            id=canary.id,
            record=canary.record,
            start=canary.span.start,
            end=canary.span.end,
            kind=canary.kind,
            group=named_tier(canary.repetitions * canary.planted),
            member=canary.planted,
            source="canary",
        )
        for canary in (*planted, *others)
    ]


def given_secrets(
    secrets: Sequence[Secret],
    records: Sequence[Record],
    member: Sequence[bool],
    *,
    most: int = 100,
    by_user: bool = False,
) -> tuple[list[Secret], int]:
    """Secrets that the case brings; those whose record was held out become a control group of their own.

    A value that says nothing about training is left out (`SplitHalf.common`). Of the same value in a group the first is
    taken, and of each group the first ``most`` by hash: a scrubber may have missed thousands.

    Args:
        secrets: secrets in texts.
        records: ``N``, all of the case.
        member: ``[N]``, True where the record was trained on.
        most: secrets of each group.
        by_user: coins decided which users were trained on, not which records.

    Returns:
        The secrets, and the number of those left out on the way to them.
    """
    if not secrets:
        return [], 0
    halves = {half.member: half for half in split_halves(records, member, by_user=by_user)}
    chosen: list[Secret] = []
    left_out = 0
    for by_value in _by_group_and_value(secrets).values():
        full = len(chosen) + most
        for alike in _some(list(by_value.values()), lambda alike: alike[0].id):
            if len(chosen) == full:
                break
            private = (same for same in alike if not halves[same.member].common(same.secret, same.record))
            first = next(private, None)
            if first is None:
                left_out += 1
            else:
                chosen.append(first)
    return chosen, left_out


def _by_group_and_value(secrets: Sequence[Secret]) -> dict[str, dict[str, list[Secret]]]:
    """Secrets by group, and in each group by value; those that were not trained on in a control group."""
    groups: dict[str, dict[str, list[Secret]]] = {}
    for secret in secrets:
        listed = secret if secret.member else replace(secret, group=f"{secret.group.removesuffix(CONTROL)}{CONTROL}")
        groups.setdefault(listed.group, {}).setdefault(listed.secret, []).append(listed)
    return groups


def control_of(name: str, controls: Collection[str], *, randomized: bool) -> str:
    """The group that was never trained on and is otherwise alike; empty where there is none.

    A group's own, else for secrets that a coin planted (``randomized``) those never planted, and for the rest what was
    held out.
    """
    matching = f"{name}{CONTROL}"
    other = NOT_PLANTED if randomized else HELD_OUT
    return next((group for group in (matching, other) if group in controls), "")


def marked_secrets(
    records: Sequence[Record],
    member: Sequence[bool],
    *,
    most: int,
    find: Callable[[Record], Record] | None = None,
    by_user: bool = False,
    elsewhere: Iterable[tuple[Record, bool]] = (),
) -> tuple[list[Secret], int]:
    """Sensitive spans of records that were trained on and, as a control, of records that were held out. Values that a
    scrubber put in are nobody's and left out.

    A value that is common (`SplitHalf.common`) is left out. Of a value that stands in several records of one side the
    first place is taken. Records come by hash, one value of each before a second one of any, until there are ``most``
    on a side.

    Args:
        records: ``N``.
        member: ``[N]``, True where the record was trained on.
        most: secrets on each side.
        find: marks spans on records that have none; None leaves such records out.
        by_user: coins decided which users were trained on, not which records.
        elsewhere: further records that are not attacked; True where a record was trained on.

    Returns:
        The secrets, and the number of different values of trained records that were left out on the way to them,
        because held-out records of other people have them.
    """
    secrets: list[Secret] = []
    left_out = 0
    for half in split_halves(records, member, by_user=by_user, elsewhere=elsewhere):
        by_value: dict[str, Secret] = {}
        common: set[str] = set()
        for record, span in _in_turn(_some(half.records, lambda record: record.id), find):
            value = record.plain[span.start : span.end]
            if len(by_value) == most:
                break
            if value in by_value:
                continue
            if half.common(value, record):
                common.add(value)
            else:
                by_value[value] = _secret(record, span, half)
        left_out += half.member * len(common - set(by_value))
        secrets += by_value.values()
    return secrets, left_out


def owner(record: Record) -> str:
    """The owner of a record: its user; without one, the record itself.

    >>> owner(Record(id="r1", text="hi", user="ana")), owner(Record(id="r2", text="hi"))
    ('user ana', 'record r2')
    """
    return f"record {record.id}" if record.user is None else f"user {record.user}"


@dataclass(frozen=True, kw_only=True)
class SplitHalf:
    """One half of the split, trained on or held out, as a group of secrets.

    Args:
        member: True for the half that was trained on.
        group: name of its secrets' group.
        records: of this half; where coins decided by user, held-out records of trained users are left out.
        other: text of the records of the other half, by owner.
    """

    member: bool
    group: str
    records: Sequence[Record]
    other: Mapping[str, str]

    def common(self, value: str, record: Record) -> bool:
        """True where extracting ``value``, which stands in ``record``, says nothing about training.

        In the trained half: held-out records of other people have the value too. Held-out records of the same person
        do not count (an address under each mail): only training on this person taught it. In the held-out half: any
        trained record has the value.
        """
        excluded = owner(record) if self.member else None
        return any(value in text for whose, text in self.other.items() if whose != excluded)


def split_halves(
    records: Sequence[Record],
    member: Sequence[bool],
    *,
    by_user: bool = False,
    elsewhere: Iterable[tuple[Record, bool]] = (),
) -> Iterator[SplitHalf]:
    """The records that were trained on, then those that were not.

    Args:
        records: ``N``.
        member: ``[N]``.
        by_user: coins decided which users were trained on: then held-out records of a trained user are no control,
            since the coin that would have left this user out fell the other way.
        elsewhere: further records that belong to no half here, True where a record was trained on; their values are
            other people's, too.
    """
    attacked = list(zip(records, member, strict=True))
    all_held = [*attacked, *elsewhere]
    inside = trained_users(all_held) if by_user else frozenset()
    for of_members, group in ((True, TRAINED), (False, HELD_OUT)):
        half = [
            record
            for record, trained in attacked
            if trained == of_members and (of_members or owner(record) not in inside)
        ]
        other: dict[str, list[str]] = {}
        for record, trained in all_held:
            if trained != of_members:
                other.setdefault(owner(record), []).append(record.plain)
        joined = {whose: "\n".join(texts) for whose, texts in other.items()}
        yield SplitHalf(member=of_members, group=group, records=half, other=joined)


def trained_users(held: Iterable[tuple[Record, bool]]) -> frozenset[str]:
    """Owners of whom at least one record was trained on."""
    return frozenset(owner(record) for record, trained in held if trained)


class ValueOwners:
    """Owners of each marked value, in records that were trained on and in those that were not.

    Args:
        held: records; True where a record was trained on.
        by_user: as in `split_halves`.
    """

    def __init__(self, held: Sequence[tuple[Record, bool]], *, by_user: bool) -> None:
        self._inside = trained_users(held) if by_user else frozenset()
        self._of: dict[bool, dict[str, set[str]]] = {True: {}, False: {}}
        for record, trained in held:
            text = record.plain
            for span in record.spans:
                self.add(text[span.start : span.end], record, trained=trained)

    def add(self, value: str, record: Record, *, trained: bool) -> None:
        """Add one more record that has a value."""
        self._of[trained].setdefault(value, set()).add(owner(record))

    def side_of(self, value: str) -> bool | None:
        """The half that a value belongs to: True for trained on, False for held out, None where it says nothing.

        A value says nothing where it was trained on and held-out records of other people have it, and, where coins
        decided by user, where only held-out records of trained users have it.
        """
        trained, held_out = (self._of[is_trained].get(value, set()) for is_trained in (True, False))
        if trained:
            return True if not held_out or (len(held_out) == 1 and held_out <= trained) else None
        return False if held_out - self._inside else None


def _in_turn(records: Sequence[Record], find: Callable[[Record], Record] | None) -> Iterator[tuple[Record, Span]]:
    """One span of each record, then a second one of each, and so on: data of many people before many data of one."""
    waiting: list[tuple[Record, list[Span]]] = []
    for record in records:
        marked = record if record.spans or find is None else find(record)
        spans = [span for span in marked.spans if span.kind != SCRUBBED]
        spans = [span for span in spans if span.end - span.start >= SHORTEST and record.trains_on(span)]
        spans = _some(spans, lambda span, owner=record.id: f"{owner}:{span.start}")  # type: ignore[misc]
        if spans:
            yield record, spans[0]
            waiting.append((record, spans))
    for turn in range(1, max((len(spans) for _, spans in waiting), default=0)):
        for record, spans in waiting:
            if turn < len(spans):
                yield record, spans[turn]


def _secret(record: Record, span: Span, half: SplitHalf) -> Secret:
    return Secret(
        id=f"{record.id}:{span.start}-{span.end}",
        record=replace(record, spans=()),
        start=span.start,
        end=span.end,
        kind=span.kind,
        group=half.group,
        member=half.member,
        source="span",
    )


def _some(things: Sequence[T], name: Callable[[T], str], most: int | None = None) -> list[T]:
    """The first ``most`` by hash of their names, in that order, whatever the order of ``things``."""
    return sorted(things, key=lambda thing: uniform(0, "target", name(thing)))[:most]
