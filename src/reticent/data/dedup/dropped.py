# SPDX-License-Identifier: Apache-2.0
"""The outcome of a deduplication rule: the records left, and for each record dropped its original and the reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core.atomic import write_text
from reticent.core.record import Record
from reticent.data.mapped_records import at_places


class DroppedRecord(NamedTuple):
    """A record that was left out.

    Args:
        id: of it.
        kept: the id of the record that stands for it. Where near-copies form a chain, the first of the chain.
        why: ``"exact"``, ``"near"``, ``"substring"``; with ``" of the user"`` behind it where only the user's own
            records were compared.

    Examples:
        >>> DroppedRecord(id="b", kept="a", why="exact").kept
        'a'
    """

    id: str
    kept: str
    why: str


class Deduplication(NamedTuple):
    """The records left and the records dropped, both in the order given."""

    records: Sequence[Record]
    dropped: tuple[DroppedRecord, ...]


def leave_out(records: Sequence[Record], original: npt.NDArray[np.int64], reason: str) -> Deduplication:
    """Leave out the records that repeat an earlier one.

    Args:
        records: ``[N]``.
        original: ``[N]`` the place of an earlier record that each one repeats; -1 for none.
        reason: of all of them.
    """
    left: list[int] = []
    dropped: list[DroppedRecord] = []
    root = list(range(len(records)))
    for place, earlier in enumerate(original.tolist()):
        if earlier < 0:
            left.append(place)
        else:
            root[place] = root[earlier]
            dropped.append(DroppedRecord(records[place].id, records[root[place]].id, reason))
    return Deduplication(at_places(records, left), tuple(dropped))


def settled(dropped: Iterable[DroppedRecord]) -> tuple[DroppedRecord, ...]:
    """The records that several rules left out, with ``kept`` followed to a record that none of them left out.

    >>> settled([DroppedRecord("c", "b", "exact"), DroppedRecord("b", "a", "near")])
    (DroppedRecord(id='c', kept='a', why='exact'), DroppedRecord(id='b', kept='a', why='near'))
    """
    every = tuple(dropped)
    stands_for = {drop.id: drop.kept for drop in every}

    def root(name: str) -> str:
        while name in stands_for:
            name = stands_for[name]
        return name

    return tuple(drop._replace(kept=root(drop.kept)) for drop in every)


def write_dropped(path: str | Path, dropped: Iterable[DroppedRecord]) -> None:
    """Write one JSON line for each record that was left out: ids and reasons, no text. Atomically."""
    write_text(path, "".join(json.dumps(drop._asdict(), ensure_ascii=False) + "\n" for drop in dropped))
