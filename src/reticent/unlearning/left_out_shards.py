# SPDX-License-Identifier: Apache-2.0
"""Shards that a model was made without, told from the requests of its chain. No torch."""

from __future__ import annotations

from collections.abc import Callable

from reticent.core.manifest import read_manifest
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.user_shards import shard_of
from reticent.unlearning.parents import Chain


def shards_left_out(runs: Chain, record_of: Callable[[str], Record]) -> tuple[frozenset[int], int]:
    """Numbers of the shards that the last model of a chain was made without, and how many there are in all; none and 0
    for a chain that left out none. A retraining brings back what was lost with them.

    Args:
        runs: all requests so far.
        record_of: a record by its id.
    """
    dropped: frozenset[int] = frozenset()
    gone: list[Record] = []
    count = 0
    for link in runs.links:
        gone += [record_of(row.record_id) for row in link.request]
        method = (link.run.settings("unlearn") or {}).get("unlearning", {}).get("method")
        if method == "shards":
            count = shard_count(runs.root)
            dropped = frozenset(shard_of(record, count) for record in gone)
        elif method == "retrain":
            dropped = frozenset()
    return dropped, count


def shard_count(root: RunFolder) -> int:
    """Shards that a run of `reticent tune` was made in; 0 for none."""
    training = read_manifest(root.manifest).get("tune", {}).get("training", {})
    return int(training.get("shards") or 0)
