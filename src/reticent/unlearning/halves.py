# SPDX-License-Identifier: Apache-2.0
"""The two halves of forgotten and unseen rows: one steers when to stop, the other, not looked at before, judges."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from reticent.core import validate
from reticent.core.record import Record
from reticent.data.coin import uniform
from reticent.unlearning.request_file import Part

MIN_TO_HALVE = 40
"""Forgotten rows from which there is a half to spare."""
MIN_HALF = 10
"""Forgotten rows, and unseen ones, that each half has at least: whole users stay together, so halves can be uneven."""


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Parts of the forgotten and of the unseen rows, in the order that they were given.

    Args:
        forget: ``[F]`` parts of forgotten rows. All of these are unlearned, whatever their part.
        unseen: ``[U]`` parts of rows never trained on.
        reason: the reason why no rows steer; empty where some do.
    """

    forget: tuple[Part, ...]
    unseen: tuple[Part, ...]
    reason: str

    @property
    def steers(self) -> bool:
        """True if there are rows to stop by."""
        return not self.reason


def halves(forget: Sequence[Record], unseen: Sequence[Record], *, aside: Collection[str] = (), seed: int = 0) -> Halves:
    """Deal rows to two sides, users as a whole, so that who is stopped by is not who judges.

    A stop is chosen because the steering rows look forgotten at that moment, so they look better than they are; rows
    of their users share that luck. Users go in the order of a hash of seed and name, each to the side that has fewer
    forgotten rows so far; then users without forgotten rows to the side that has fewer unseen ones. The hash decides
    who is where, and no score is looked at. A row without a user is its own.

    Args:
        forget: ``[F]`` rows that are forgotten.
        unseen: ``[U]`` rows that they are compared with.
        aside: ids of forgotten rows that are not compared, see `unseen.unseen_rows`; of fewer than 40 rows in all none
            is left out, for their comparison says nothing anyhow.
        seed: of the hash.

    Examples:
        >>> mails = [Record(id=str(n), text="a mail", user=f"u{n % 8}") for n in range(80)]
        >>> sides = halves(mails[:40], mails[40:])
        >>> sides.forget.count("steer"), sides.unseen.count("steer"), sides.forget == sides.unseen
        (20, 20, True)
        >>> halves(mails[:20], mails[40:]).reason
        'only 20 rows are forgotten, too few to tell by half of them when to stop (40 would do)'
    """
    validate.seed(seed=seed)
    if len(forget) < MIN_TO_HALVE:
        return _all_judge(
            forget,
            unseen,
            f"only {len(forget)} rows are forgotten, too few to tell by half of them when to stop "
            f"({MIN_TO_HALVE} would do)",
        )
    apart = set(aside)
    compared = [record for record in forget if record.id not in apart]
    if len(compared) < MIN_TO_HALVE:
        return _all_judge(
            forget,
            unseen,
            f"of {len(forget)} forgotten rows {len(compared)} can be compared, too few to tell by half of them when to "
            f"stop ({MIN_TO_HALVE} would do)",
            apart,
        )
    part: dict[str, Part] = {}
    _deal(part, compared, seed)
    _deal(part, unseen, seed)
    sides = Halves(
        forget=tuple("aside" if record.id in apart else part[_unit(record)] for record in forget),
        unseen=tuple(part[_unit(record)] for record in unseen),
        reason="",
    )
    for name, parts in (("forgotten", sides.forget), ("never-trained", sides.unseen)):
        smaller = min(parts.count("steer"), parts.count("judge"))
        if smaller < MIN_HALF:
            return _all_judge(
                forget,
                unseen,
                f"with whole users on one side, the smaller half would have {smaller} {name} rows, too few to tell "
                f"when to stop ({MIN_HALF} would do)",
                apart,
            )
    return sides


def _deal(part: dict[str, Part], records: Sequence[Record], seed: int) -> None:
    """Give a part to the units of ``records`` that have none yet, by turns so that both get about as many rows."""
    size: dict[str, int] = {}
    for record in records:
        size[_unit(record)] = size.get(_unit(record), 0) + 1
    count: dict[Part, int] = {"steer": 0, "judge": 0}
    for unit in size:
        if unit in part:
            count[part[unit]] += size[unit]
    for unit in sorted(size, key=lambda unit: (uniform(seed, "halves", unit), unit)):
        if unit not in part:
            part[unit] = "steer" if count["steer"] < count["judge"] else "judge"
            count[part[unit]] += size[unit]


def _unit(record: Record) -> str:
    return f"record {record.id}" if record.user is None else f"user {record.user}"


def _all_judge(forget: Sequence[Record], unseen: Sequence[Record], reason: str, apart: Collection[str] = ()) -> Halves:
    parts: tuple[Part, ...] = tuple("aside" if record.id in apart else "judge" for record in forget)
    judge: Part = "judge"
    return Halves(forget=parts, unseen=(judge,) * len(unseen), reason=reason)
