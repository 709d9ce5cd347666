# SPDX-License-Identifier: Apache-2.0
"""What an extraction audit tries to pull out: planted secrets, and personal data of trained and of other records."""

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
"""Ends the name of a group of which nothing was trained on."""
TRAINED = "personal data, trained on"
HELD_OUT = f"personal data{CONTROL}"
SHORTEST = 4
"""Characters of a marked value that is worth pulling out: shorter ones are guessed."""


def canary_secrets(canaries: Sequence[Canary], *, most: int) -> list[Secret]:
    """One target for each canary, in groups by how often it was planted, the rarest first.

    Controls and secrets whose coin left them out are one group, never planted: of these the first ``most`` by hash.
    """
    planted = sorted((canary for canary in canaries if canary.planted), key=lambda one: one.repetitions)
    others = _some([canary for canary in canaries if not canary.planted], lambda one: one.id, most)
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
    targets: Sequence[Secret],
    records: Sequence[Record],
    member: Sequence[bool],
    *,
    most: int = 100,
    by_user: bool = False,
) -> tuple[list[Secret], int]:
    """Targets from elsewhere; those whose record was held out become a control group of their own.

    Left out is what says nothing of training (`SplitHalf.common`). Of the same value in a group the first is taken, and
    of each group the first ``most`` by hash: a scrubber may have missed thousands.

    Args:
        targets: secrets in texts.
        records: ``N``: all that there are, trained on or not.
        member: ``[N]`` whether each was trained on.
        most: targets of each group.
        by_user: whether coins decided which users were trained on.

    Returns:
        The targets, and how many were left out on the way to them.
    """
    if not targets:
        return [], 0
    sides = {side.member: side for side in split_halves(records, member, by_user=by_user)}
    groups: dict[str, dict[str, list[Secret]]] = {}
    for one in targets:
        found = one if one.member else replace(one, group=f"{one.group.removesuffix(CONTROL)}{CONTROL}")
        groups.setdefault(found.group, {}).setdefault(found.secret, []).append(found)
    kept: list[Secret] = []
    left_out = 0
    for values in groups.values():
        full = len(kept) + most
        for alike in _some(list(values.values()), lambda each: each[0].id):
            if len(kept) == full:
                break
            first = next((one for one in alike if not sides[one.member].common(one.secret, one.record)), None)
            if first is None:
                left_out += 1
            else:
                kept.append(first)
    return kept, left_out


def control_of(name: str, controls: Collection[str], *, randomized: bool) -> str:
    """The group that was never trained on and is otherwise alike; empty where there is none.

    A group's own, else for secrets that a coin planted (``randomized``) those never planted, and for the rest what was
    held out.
    """
    own = f"{name}{CONTROL}"
    other = NOT_PLANTED if randomized else HELD_OUT
    return next((one for one in (own, other) if one in controls), "")


def marked_secrets(
    records: Sequence[Record],
    member: Sequence[bool],
    *,
    most: int,
    find: Callable[[Record], Record] | None = None,
    by_user: bool = False,
    elsewhere: Iterable[tuple[Record, bool]] = (),
) -> tuple[list[Secret], int]:
    """Sensitive stretches of records, those trained on and, as a control, those held out. What a scrubber put in
    place of such is nobody's and left out.

    A value that is common (`SplitHalf.common`) is left out. Of a value that stands in several records of one side the
    first place is taken. Records come by hash, one value of each before a second one of any, until there are ``most``
    on a side.

    Args:
        records: ``N``.
        member: ``[N]`` whether each was trained on.
        most: targets on each side.
        find: marks spans on records that have none; None where nobody is to look.
        by_user: whether coins decided which users were trained on.
        elsewhere: further records that are not attacked, with whether each was trained on.

    Returns:
        The targets, and how many different values of trained records were left out on the way to them, because other
        people's records that were held out have them.
    """
    targets: list[Secret] = []
    left_out = 0
    for side in split_halves(records, member, by_user=by_user, elsewhere=elsewhere):
        found: dict[str, Secret] = {}
        common: set[str] = set()
        for record, span in _in_turn(_some(side.records, lambda one: one.id), find):
            value = record.plain[span.start : span.end]
            if len(found) == most:
                break
            if value in found:
                continue
            if side.common(value, record):
                common.add(value)
            else:
                found[value] = _target(record, span, side)
        left_out += side.member * len(common - set(found))
        targets += found.values()
    return targets, left_out


def owner(record: Record) -> str:
    """Whose a record is: its user's, and where nobody knows, nobody else's than its own.

    >>> owner(Record(id="r1", text="hi", user="ana")), owner(Record(id="r2", text="hi"))
    ('user ana', 'record r2')
    """
    return f"record {record.id}" if record.user is None else f"user {record.user}"


@dataclass(frozen=True, kw_only=True)
class SplitHalf:
    """Records that were trained on, or records that were not, in a group of targets that is named after that.

    Args:
        member: whether they were trained on.
        group: its name.
        records: of this side; where coins went by user, of those held out only other users' than those trained on.
        other: the text of the records of the other side, by whose they are.
    """

    member: bool
    group: str
    records: Sequence[Record]
    other: Mapping[str, str]

    def common(self, value: str, record: Record) -> bool:
        """Whether it says nothing about training that ``value``, which stands in ``record``, comes up.

        Of what was trained on: other people have it too, in records that were held out. That the same person's
        held-out records have it (an address under each mail) does not matter: nothing but training on this person
        taught it. Of what was held out: a record of anybody that was trained on has it.
        """
        mine = owner(record) if self.member else None
        return any(value in text for whose, text in self.other.items() if whose != mine)


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
        by_user: whether coins decided which users were trained on: then held-out records of a user who was in are no
            control, since the coin that would have kept this user out fell the other way.
        elsewhere: further records that belong to no side here, with whether each was trained on: their values are
            other people's, too.
    """
    mine = list(zip(records, member, strict=True))
    all_held = [*mine, *elsewhere]
    inside = trained_users(all_held) if by_user else frozenset()
    for side, group in ((True, TRAINED), (False, HELD_OUT)):
        own = [record for record, trained in mine if trained == side and (side or owner(record) not in inside)]
        other: dict[str, list[str]] = {}
        for record, trained in all_held:
            if trained != side:
                other.setdefault(owner(record), []).append(record.plain)
        joined = {whose: "\n".join(texts) for whose, texts in other.items()}
        yield SplitHalf(member=side, group=group, records=own, other=joined)


def trained_users(held: Iterable[tuple[Record, bool]]) -> frozenset[str]:
    """Owners of whom at least one record was trained on."""
    return frozenset(owner(record) for record, trained in held if trained)


class ValueOwners:
    """Which owners have which marked value, in records that were trained on and in those that were not.

    Args:
        held: records, each with whether it was trained on.
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
        """One more place where a value stands."""
        self._of[trained].setdefault(value, set()).add(owner(record))

    def side_of(self, value: str) -> bool | None:
        """True for a value of one side that was trained on, False for one that was not, None for what says nothing:
        a value that was trained on and that other people have whose records were held out, or, where coins went by
        user, one that only held-out records of trained users have."""
        trained, held_out = (self._of[side].get(value, set()) for side in (True, False))
        if trained:
            return True if not held_out or (len(held_out) == 1 and held_out <= trained) else None
        return False if held_out - self._inside else None


def _in_turn(records: Sequence[Record], find: Callable[[Record], Record] | None) -> Iterator[tuple[Record, Span]]:
    """One span of each record, then a second one of each, and so on: many people's data before much of one's."""
    waiting: list[tuple[Record, list[Span]]] = []
    for record in records:
        marked = record if record.spans or find is None else find(record)
        spans = [span for span in marked.spans if span.kind != SCRUBBED]
        spans = [span for span in spans if span.end - span.start >= SHORTEST and record.trains_on(span)]
        spans = _some(spans, lambda one, owner=record.id: f"{owner}:{one.start}")  # type: ignore[misc]
        if spans:
            yield record, spans[0]
            waiting.append((record, spans))
    for turn in range(1, max((len(spans) for _, spans in waiting), default=0)):
        for record, spans in waiting:
            if turn < len(spans):
                yield record, spans[turn]


def _target(record: Record, span: Span, side: SplitHalf) -> Secret:
    return Secret(
        id=f"{record.id}:{span.start}-{span.end}",
        record=replace(record, spans=()),
        start=span.start,
        end=span.end,
        kind=span.kind,
        group=side.group,
        member=side.member,
        source="span",
    )


def _some(things: Sequence[T], name: Callable[[T], str], most: int | None = None) -> list[T]:
    """The first ``most`` by hash of their names, in that order: the same ones when more are to be had elsewhere."""
    return sorted(things, key=lambda one: uniform(0, "target", name(one)))[:most]
