# SPDX-License-Identifier: Apache-2.0
"""The shard of a training in shards that a record belongs to, which follows from its user alone."""

from __future__ import annotations

from reticent.core.record import Record
from reticent.data.coin import uniform

RULE = 1
"""Increment when records go to other shards: adapters of earlier versions are then refused."""


def shard_of(record: Record, count: int) -> int:
    """The shard of a record, from 0: that of its user, or its own where it has none. It depends on nothing else.

    Args:
        record: any.
        count: how many shards there are.

    >>> shard_of(Record(id="a", text="x", user="ana"), 4) == shard_of(Record(id="b", text="y", user="ana"), 4)
    True
    """
    thing = f"record {record.id}" if record.user is None else f"user {record.user}"
    return int(uniform(RULE, "shard", thing) * count)
