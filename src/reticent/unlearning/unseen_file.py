# SPDX-License-Identifier: Apache-2.0
"""``unseen.parquet``: ids of the rows never trained on that forgotten ones are compared with, and the half of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput
from reticent.unlearning.request_file import PARTS, Part

_SCHEMA = pa.schema([pa.field("record_id", pa.string(), nullable=False), pa.field("part", pa.string(), nullable=False)])


class UnseenRow(NamedTuple):
    """A record that was never trained on, and whether it steered the stopping or judges."""

    record_id: str
    part: Part


def write_unseen(path: str | Path, rows: Sequence[UnseenRow]) -> None:
    """Write ``unseen.parquet``, atomically and readable by its owner only.

    >>> write_unseen("unseen.parquet", [UnseenRow("r9", "judge")])
    >>> read_unseen("unseen.parquet")
    (UnseenRow(record_id='r9', part='judge'),)
    """
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist([row._asdict() for row in rows], schema=_SCHEMA), temporary)


def read_unseen(path: str | Path) -> tuple[UnseenRow, ...]:
    """Read what `write_unseen` wrote.

    Raises:
        BadInput: there is no such file, or it is another one or damaged.
    """
    try:
        table = pq.read_table(path)
        rows = tuple(UnseenRow(**row) for row in table.to_pylist())
    except (OSError, TypeError, pa.ArrowException) as error:
        raise BadInput(
            str(path), "is missing or damaged", "Copy the run folder again, or unlearn again in a new one."
        ) from error
    if any(row.part not in PARTS for row in rows):
        raise BadInput(str(path), "is damaged", "Copy the run folder again, or unlearn again in a new one.")
    return rows
