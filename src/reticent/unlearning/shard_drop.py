# SPDX-License-Identifier: Apache-2.0
"""Dropping shards: the average of those adapters of a run that never saw what is to be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.user_shards import shard_of
from reticent.models import adapters
from reticent.models.tuned import read_tuned
from reticent.train.sharding import Shards, average, read_shards
from reticent.unlearning.left_out_shards import shard_count


@dataclass(frozen=True, kw_only=True)
class ShardDrop:
    """Shards of a run that a request takes away.

    Args:
        shards: all of the run.
        dropped: numbers of those that hold a row to be forgotten, by this request or by an earlier one.
        lost: rows beside those that are lost with them, and that are still wanted.
    """

    shards: Shards
    dropped: tuple[int, ...]
    lost: int

    @property
    def left(self) -> tuple[int, ...]:
        """Numbers of those that stay."""
        return tuple(number for number in range(len(self.shards)) if number not in self.dropped)

    @property
    def on_record(self) -> dict[str, Any]:
        """For the manifest: numbers alone."""
        return {"shards": len(self.shards), "dropped": list(self.dropped), "lost_rows": self.lost}

    @property
    def sentence(self) -> str:
        """The price, in a line for a person."""
        return (
            f"{len(self.dropped)} of {len(self.shards)} shards hold a row to be forgotten and are left out; with them "
            f"{self.lost:,} rows that are to be retained are lost"
        )


def plan_drop(root: RunFolder, gone: Sequence[Record], retained: Sequence[Record]) -> ShardDrop:
    """Find the shards that a request takes away.

    Args:
        root: run of `reticent tune`.
        gone: all rows that are to be forgotten, those of earlier requests too.
        retained: rows that are still wanted.

    Raises:
        BadInput: the run was not trained in shards, all of them hold such a row, or the adapters are not those that
            were trained.
    """
    given = "method='shards'"
    if not shard_count(root):
        raise BadInput(
            f"{given} on {root.root}",
            "the run was not trained in shards",
            "Choose retrain; for requests to come, tune in shards (reticent tune --method lora --shards 8).",
        )
    shards = read_shards(root.shards)
    dropped = {shard_of(record, len(shards)) for record in gone}
    if len(dropped) == len(shards):
        raise BadInput(
            f"{given} on {root.root}",
            f"all {len(shards)} shards hold a row to be forgotten, so nothing would be left",
            "Choose retrain.",
        )
    shards.check()
    lost = sum(shard_of(record, len(shards)) in dropped for record in retained)
    return ShardDrop(shards=shards, dropped=tuple(sorted(dropped)), lost=lost)


def drop(plan: ShardDrop, parent: Path, folder: Path, *, at: Path, request: str) -> None:
    """Write the average of the shards that are left.

    Args:
        plan: which.
        parent: folder of the model that the request is made to.
        folder: to write into.
        at: where it is to lie in the end.
        request: fingerprint of the request, for the description of the model.
    """
    tuned = read_tuned(parent)
    assert tuned is not None  # the request was made to it
    before = adapters.fingerprint(parent, tuned.base_fingerprint, tuned)
    average(plan.shards, plan.left, folder, at=at, parent=before, request=request)
