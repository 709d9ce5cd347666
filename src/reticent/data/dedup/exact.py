# SPDX-License-Identifier: Apache-2.0
"""Exact copies: the same content in the same shape, whoever it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from reticent.core.record import Record


class Deduplicated(NamedTuple):
    """What is left, and how many copies were dropped."""

    records: list[Record]
    dropped: int


def drop_exact_duplicates(records: Iterable[Record]) -> Deduplicated:
    """Keep the first record of each content (``Record.content_hash``); ids, users and spans are not compared.

    A text with one copy in and one copy out would be a member and held out at once, so this comes before any split.

    >>> kept = drop_exact_duplicates([Record(id="a", text="x"), Record(id="b", text="x"), Record(id="c", text="y")])
    >>> [record.id for record in kept.records], kept.dropped
    (['a', 'c'], 1)
    """
    first: dict[str, Record] = {}
    every = list(records)
    for record in every:
        first.setdefault(record.content_hash, record)
    return Deduplicated(list(first.values()), len(every) - len(first))
