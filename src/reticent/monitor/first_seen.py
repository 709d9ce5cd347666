# SPDX-License-Identifier: Apache-2.0
"""In which optimizer step a record was trained on first, where the order of records is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reticent.core.record import Record
from reticent.models.encode import EncodedRecord
from reticent.train.batches import LengthGrouped


def first_steps(
    records: Sequence[Record], loader: Any, encoded: Callable[[Record], EncodedRecord]
) -> dict[str, int] | None:
    """The first optimizer step, counted from 1, whose batch holds a record with the same tokens.

    Args:
        records: that are trained on.
        loader: the trainer's.
        encoded: a record as it is trained on.

    Returns:
        Step by record id, without those that were not found; None if the loader's order is none of ours.
    """
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    rows = getattr(loader, "dataset", None)
    if not isinstance(sampler, LengthGrouped) or not isinstance(rows, list):
        return None
    order = LengthGrouped(
        sampler.lengths.tolist(), sampler.batch_size, sampler.seed
    )  # the first epoch's, whatever runs now
    first: dict[bytes, int] = {}
    for place, row in enumerate(order):
        first.setdefault(rows[row].token_id.tobytes(), place // sampler.batch_size + 1)
    steps = {record.id: first.get(encoded(record).token_id.tobytes()) for record in records}
    return {id_: step for id_, step in steps.items() if step is not None}
