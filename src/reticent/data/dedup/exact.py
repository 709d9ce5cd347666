# SPDX-License-Identifier: Apache-2.0
"""Exact copies: the same content in the same shape, whoever it belongs to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from reticent.core.record import Record
from reticent.data.dedup.dropped import Deduplication, leave_out
from reticent.data.mapped_records import held


def drop_exact_duplicates(records: Iterable[Record], *, within_users: bool = False) -> Deduplication:
    """Keep the first record of each content (``Record.content_hash``); ids and spans are not compared.

    A text with one copy in and one copy out would be a member and held out at once, so this comes before any split.

    Args:
        records: with unique ids.
        within_users: only copies of the same user (or of nobody) are dropped, so that what is left of a user does not
            depend on others. Else whose they are is not compared.

    Examples:
        >>> kept = drop_exact_duplicates([Record(id="a", text="x"), Record(id="b", text="x"), Record(id="c", text="y")])
        >>> [record.id for record in kept.records], kept.dropped
        (['a', 'c'], (DroppedRecord(id='b', kept='a', why='exact'),))
    """
    every = held(records)
    first: dict[tuple[str | None, str], int] = {}
    original = [
        earlier if (earlier := first.setdefault(_key(record, within_users), place)) < place else -1
        for place, record in enumerate(every)
    ]
    return leave_out(every, np.array(original, dtype=np.int64), "exact")


def _key(record: Record, within_users: bool) -> tuple[str | None, str]:
    return (record.user if within_users else None, record.content_hash)
