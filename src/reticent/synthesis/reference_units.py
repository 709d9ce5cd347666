# SPDX-License-Identifier: Apache-2.0
"""ReferenceUnits: whose records stand together, which of them count, and which units stand behind which text.

A unit is a record, or a user with at most a given number of records. Which of a user's records count depends on that
user alone. Each unit is behind one text at most, so that what one text costs is what a unit pays:

=================  ====================================================================================================
``add_or_remove``  each unit throws a secret die of its own for the text that it stands behind, so that one unit more or
                   less moves no other. There are as many sides as batches of B could be filled on average; those
                   beyond the number of texts are not used. The sum of a text is divided by B, however many came
``zero_out``,      units stand in a secret order of their places and are cut into batches of exactly B. A unit that is
``replace_one``    zeroed out or replaced keeps its place
=================  ====================================================================================================

The number of units is known to all, as everywhere in this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.sampling import words
from reticent.privacy.spec import ADD_OR_REMOVE


@dataclass(frozen=True, kw_only=True)
class ReferenceUnits:
    """The units of private records.

    Args:
        names: of the units: ids of records, or users.
        records: of each unit, the numbers of the records that count.

    Examples:
        >>> units = ReferenceUnits(names=("ana", "ben"), records=((0, 2), (1,)))
        >>> len(units)
        2
    """

    names: tuple[str, ...]
    records: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def most_records(self) -> int:
        """Of one unit."""
        return max(map(len, self.records))


Batches = tuple[tuple[int, ...], ...]
"""For each text the numbers of the units behind it, rising."""


def units_of(records: Sequence[Record], *, unit: str, most: int, key: bytes) -> ReferenceUnits:
    """The units of ``records``.

    Args:
        records: with unique ids.
        unit: "record" or "user".
        most: records of a user that count.
        key: 32 secret bytes, by which these are chosen.

    Raises:
        BadInput: there are none; a record without a user where users are protected; an id twice.

    Examples:
        >>> records = [Record(id=str(n), text="a", user="ana") for n in range(3)]
        >>> key = bytes(range(32))
        >>> len(units_of(records, unit="record", most=1, key=key)), len(units_of(records, unit="user", most=1, key=key))
        (3, 1)
    """
    if not records:
        raise BadInput("the data", "holds no record", "Give private texts.")
    if len({record.id for record in records}) < len(records):
        raise BadInput("the data", "has an id twice, so a record could be behind two texts", "Give unique ids.")
    if unit == "record":
        names = tuple(record.id for record in records)
        return ReferenceUnits(names=names, records=tuple((number,) for number in range(len(records))))
    by_user: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        if record.user is not None:
            by_user.setdefault(record.user, []).append(number)
    unknown = len(records) - sum(map(len, by_user.values()))
    if unknown:
        raise BadInput(
            f"{unknown} of {len(records)} records",
            "have no user, so no user can be hidden",
            "Name the field that holds the user (--user_field), or give --unit record.",
        )
    counted = tuple(_chosen(user, numbers, most, key) for user, numbers in by_user.items())
    return ReferenceUnits(names=tuple(by_user), records=counted)


def _chosen(user: str, numbers: list[int], most: int, key: bytes) -> tuple[int, ...]:
    rank = words(key, "references of", user, count=len(numbers))
    return tuple(sorted(numbers[place] for place in np.argsort(rank, kind="stable")[:most]))


def batches_of(units: ReferenceUnits, *, texts: int, references: int, relation: str, key: bytes) -> Batches:
    """The units behind each text; see the module.

    Args:
        units: all there are.
        texts: how many are to be made.
        references: B.
        relation: what neighbours differ by.
        key: 32 secret bytes.

    Raises:
        BadInput: too few units, with the number that would do.

    Examples:
        >>> units = ReferenceUnits(names=tuple("abcd"), records=((0,), (1,), (2,), (3,)))
        >>> batches = batches_of(units, texts=2, references=2, relation="zero_out", key=bytes(range(32)))
        >>> sorted(unit for batch in batches for unit in batch)
        [0, 1, 2, 3]
    """
    possible = len(units) // references
    if possible < texts:
        raise BadInput(
            f"count={texts} with {references} references each",
            f"needs {texts * references} units, and there are {len(units)}: each may stand behind one text only",
            f"Give --count {possible} or less, or fewer --references."
            if possible
            else f"Give at least {references} units, or --references {len(units)} or fewer.",
        )
    if relation == ADD_OR_REMOVE:
        sides = np.uint64(possible)
        place = [int(words(key, "batch", name, count=1)[0] % sides) for name in units.names]
        batches: list[list[int]] = [[] for _ in range(texts)]
        for unit, text in enumerate(place):
            if text < texts:
                batches[text].append(unit)
        return tuple(map(tuple, batches))
    rank = [int(words(key, "batch", unit, count=1)[0]) for unit in range(len(units))]
    order = sorted(range(len(units)), key=lambda unit: (rank[unit], unit))
    return tuple(tuple(sorted(order[text * references : (text + 1) * references])) for text in range(texts))


def refuse_reuse(batches: Batches) -> None:
    """Refuse units behind two texts: they would pay twice, and ε counts once.

    Raises:
        GuaranteeViolated: there is one.

    Examples:
        >>> refuse_reuse(((0, 1), (2,)))
    """
    behind = [unit for batch in batches for unit in batch]
    twice = len(behind) - len(set(behind))
    if twice:
        raise GuaranteeViolated(
            "each unit stands behind one text",
            f"{twice} stand behind two",
            "Their ε would be larger than what is promised.",
        )
