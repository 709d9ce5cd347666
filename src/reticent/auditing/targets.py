# SPDX-License-Identifier: Apache-2.0
"""What an extraction audit tries to pull out: planted secrets, and personal data of trained and of other records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from reticent.core.record import Record, Span
from reticent.core.target import Target
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


def canary_targets(canaries: Sequence[Canary], *, most: int) -> list[Target]:
    """One target for each canary, in groups by how often it was planted, the rarest first.

    Controls and secrets whose coin left them out are one group, never planted: of these the first ``most`` by hash.
    """
    planted = sorted((canary for canary in canaries if canary.planted), key=lambda one: one.repetitions)
    others = _some([canary for canary in canaries if not canary.planted], lambda one: one.id, most)
    return [
        Target(
            id=canary.id,
            record=canary.record,
            start=canary.span.start,
            end=canary.span.end,
            kind=canary.kind,
            group=named_tier(canary.repetitions * canary.planted),
            member=canary.planted,
        )
        for canary in (*planted, *others)
    ]


def given_targets(
    targets: Sequence[Target], records: Sequence[Record], member: Sequence[bool], *, most: int = 100
) -> tuple[list[Target], int]:
    """Targets from elsewhere; those whose record was held out become a control group of their own.

    Left out are values that also stand in a record of the other side, for whether they come up says nothing of either.
    Of the same value in a group the first is taken, and of each group the first ``most`` by hash: a scrubber may have
    missed thousands.

    Args:
        targets: secrets in texts.
        records: ``N``: all that there are, trained on or not.
        member: ``[N]`` whether each was trained on.
        most: targets of each group.

    Returns:
        The targets, and how many were left out on the way to them.
    """
    if not targets:
        return [], 0
    other = {side.member: side.other for side in both_sides(records, member)}
    groups: dict[str, dict[str, Target]] = {}
    for one in targets:
        found = one if one.member else replace(one, group=f"{one.group.removesuffix(CONTROL)}{CONTROL}")
        groups.setdefault(found.group, {}).setdefault(found.secret, found)
    kept: list[Target] = []
    left_out = 0
    for values in groups.values():
        full = len(kept) + most
        for one in _some(list(values.values()), lambda each: each.id):
            if len(kept) == full:
                break
            if one.secret in other[one.member]:
                left_out += 1
            else:
                kept.append(one)
    return kept, left_out


def control_of(name: str, controls: Collection[str]) -> str:
    """The group that was never trained on and is otherwise alike; empty where there is none.

    A group's own, else for planted secrets those never planted, and for the rest what was held out.
    """
    own = f"{name}{CONTROL}"
    other = NOT_PLANTED if name.startswith("planted") else HELD_OUT
    return next((one for one in (own, other) if one in controls), "")


def span_targets(
    records: Sequence[Record], member: Sequence[bool], *, most: int, find: Callable[[Record], Record] | None = None
) -> list[Target]:
    """Sensitive stretches of records, those trained on and, as a control, those held out. What a scrubber put in
    place of such is nobody's and left out.

    A value that also stands in a record of the other side is left out: whether it comes up says nothing of either. Of
    a value that stands in several records of one side the first place is taken. Records come by hash, one value of each
    before a second one of any, until there are ``most`` on a side.

    Args:
        records: ``N``.
        member: ``[N]`` whether each was trained on.
        most: targets on each side.
        find: marks spans on records that have none; None where nobody is to look.
    """
    targets: list[Target] = []
    for side in both_sides(records, member):
        found: dict[str, Target] = {}
        for record, span in _in_turn(_some(side.records, lambda one: one.id), find):
            value = record.plain[span.start : span.end]
            if len(found) < most and value not in found and value not in side.other:
                found[value] = _target(record, span, side)
        targets += found.values()
    return targets


@dataclass(frozen=True, kw_only=True)
class OneSide:
    """Records that were trained on, or records that were not, in a group of targets that is named after that.

    Args:
        member: whether they were trained on.
        group: its name.
        records: of this side.
        other: the text of all records of the other side.
    """

    member: bool
    group: str
    records: Sequence[Record]
    other: str


def both_sides(records: Sequence[Record], member: Sequence[bool]) -> Iterator[OneSide]:
    """The records that were trained on, then those that were not. ``member``: ``[len(records)]``."""
    split = {side: [r for r, m in zip(records, member, strict=True) if m == side] for side in (True, False)}
    for side, group in ((True, TRAINED), (False, HELD_OUT)):
        other = "\n".join(record.plain for record in split[not side])
        yield OneSide(member=side, group=group, records=split[side], other=other)


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


def _target(record: Record, span: Span, side: OneSide) -> Target:
    return Target(
        id=f"{record.id}:{span.start}-{span.end}",
        record=replace(record, spans=()),
        start=span.start,
        end=span.end,
        kind=span.kind,
        group=side.group,
        member=side.member,
    )


def _some(things: Sequence[T], name: Callable[[T], str], most: int | None = None) -> list[T]:
    """The first ``most`` by hash of their names, in that order: the same ones when more are to be had elsewhere."""
    return sorted(things, key=lambda one: uniform(0, "target", name(one)))[:most]
