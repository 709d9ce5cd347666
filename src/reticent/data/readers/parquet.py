# SPDX-License-Identifier: Apache-2.0
"""Parquet, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, InputRow, reader

_BATCH = 1024


def _example(folder: Path) -> str:
    pq.write_table(pa.table({"text": ["one", "two"]}), folder / "a.parquet")
    return str(folder / "a.parquet")


@reader("parquet", suffixes=(".parquet",), example=_example)
def rows(source: str) -> Iterator[InputRow | BadRow]:
    """Each row's fields; a place is ``file, row n`` from 1."""
    try:
        with pq.ParquetFile(source) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for index in range(batch.num_rows):
                    number += 1
                    yield _row(f"{source}, row {number}", batch.slice(index, 1))
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(source, f"is not readable Parquet ({reason})", "Write the file again.") from error


def _row(place: str, record_batch: pa.RecordBatch) -> InputRow | BadRow:
    try:
        return InputRow(place=place, fields=record_batch.to_pylist()[0])
    except UnicodeDecodeError as error:
        return BadRow(place=place, why=f"is not UTF-8 (byte {error.start + 1} of a field)", fix="Write text as UTF-8.")
