# SPDX-License-Identifier: Apache-2.0
"""Rendered texts as columns, several lots of them one after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from reticent.core.schema import RECORD_COLUMNS
from reticent.models.encode import EncodedRecord
from reticent.score.render import RenderedRecords


def pack_texts(parts: Sequence[RenderedRecords]) -> pa.Table:
    """The texts of all parts (at least one), one a row."""
    rows = [row for part in parts for row in part.rows]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    token_id = np.concatenate([np.zeros(0, dtype=np.int32), *(row.token_id for row in rows)])
    trained = np.concatenate([np.zeros(0, dtype=bool), *(row.trained for row in rows)])
    flat = {"token_id": pa.array(token_id, pa.int32()), "trained": pa.array(trained, pa.bool_())}
    columns: dict[str, Any] = {name: pa.ListArray.from_arrays(offsets, values) for name, values in flat.items()}
    columns |= {name: pa.array(np.concatenate([part.about[name] for part in parts])) for name in parts[0].about}
    ends = np.cumsum([len(part.rows) for part in parts]).tolist()
    return pa.table(columns).replace_schema_metadata({"ends": json.dumps(ends)})


def unpack_texts(table: pa.Table) -> list[RenderedRecords]:
    """The parts that ``pack_texts`` packed."""
    whole = RenderedRecords(rows=_rows(table), about=_about(table))
    ends = json.loads(table.schema.metadata[b"ends"])
    return [whole.part(slice(start, end)) for start, end in pairwise([0, *ends])]


def _rows(table: pa.Table) -> list[EncodedRecord]:
    if not table.num_rows:
        return []
    token_id, trained = (table.column(name).chunk(0) for name in ("token_id", "trained"))
    ends = token_id.offsets.to_numpy()
    ids, mask = token_id.values.to_numpy(), trained.values.to_numpy(zero_copy_only=False)
    spans = [slice(start, end) for start, end in pairwise(ends)]
    return [EncodedRecord(token_id=ids[span], trained=mask[span]) for span in spans]


def _about(table: pa.Table) -> dict[str, Any]:
    return {
        name: table.column(name).to_numpy().astype(column.dtype)
        for name, column in RECORD_COLUMNS.items()
        if name in table.column_names
    }
