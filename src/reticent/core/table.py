# SPDX-License-Identifier: Apache-2.0
"""TokenTable: what one model said about every token of every record. Attacks read nothing else.

Ragged data as flat arrays and offsets, as Arrow has it: row ``i`` owns ``offsets[i]:offsets[i + 1]`` of every token
column. ``N`` rows, ``T`` tokens in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core import validate
from reticent.core.atomic import replacing
from reticent.core.errors import BadInput
from reticent.core.schema import RECORD_COLUMNS, SCHEMA_VERSION, TOKEN_COLUMNS

Array = npt.NDArray[Any]

ROW_GROUP = 4096
"""Rows in a Parquet row group: what a streaming reader holds at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenTable:
    """Per-token statistics of one model on ``N`` rows of text.

    Args:
        rows: the columns of ``schema.RECORD_COLUMNS``, each ``[N]``.
        tokens: columns of ``schema.TOKEN_COLUMNS``, each ``[T]``.
        offsets: ``[N + 1]``, int64, rising from 0 to ``T``.

    Raises:
        ValueError: the arrays do not fit each other.

    Examples:
        >>> table = TokenTable(
        ...     rows={"record_id": np.array(["a", "b"], dtype=object)},
        ...     tokens={"logp": np.array([-1.0, -3.0, -0.5])},
        ...     offsets=np.array([0, 2, 3]),
        ... )
        >>> table.mean(table["logp"]).tolist(), table.lengths.tolist()
        ([-2.0, -0.5], [2, 1])
    """

    rows: Mapping[str, Array]
    tokens: Mapping[str, Array]
    offsets: Array

    def __post_init__(self) -> None:
        if any(len(column) != len(self) for column in self.rows.values()):
            raise ValueError("each row column needs one entry for each row")
        if any(len(column) != self.offsets[-1] for column in self.tokens.values()):
            raise ValueError("each token column needs one entry for each token")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, name: str) -> Array:
        """The column of that name: ``[T]`` for token columns, ``[N]`` for row columns."""
        if name in self.tokens:
            return self.tokens[name]
        return self.rows[name]

    @property
    def record_id(self) -> Array:
        return self.rows["record_id"]

    @property
    def lengths(self) -> Array:
        """Tokens in each row, ``[N]``."""
        return np.diff(self.offsets)

    @property
    def row_of_token(self) -> Array:
        """The row that each token belongs to, ``[T]``."""
        return np.repeat(np.arange(len(self)), self.lengths)

    # ---- choosing rows and tokens -------------------------------------------------------------------------------

    def take(self, rows: Array) -> TokenTable:
        """The given rows (indices or a boolean mask), in the given order."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = _offsets(lengths)
        where = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return TokenTable(
            rows={name: column[rows] for name, column in self.rows.items()},
            tokens={name: column[where] for name, column in self.tokens.items()},
            offsets=offsets,
        )

    def trained(self) -> TokenTable:
        """The same rows with only the tokens that are trained on."""
        mask = self["loss_mask"]
        if mask.all():
            return self
        return replace(
            self,
            tokens={name: column[mask] for name, column in self.tokens.items()},
            offsets=_offsets(self.sum(mask).astype(np.int64)),
        )

    # ---- one number for each row --------------------------------------------------------------------------------

    def reduce(self, values: Array, how: np.ufunc, empty: float = 0.0) -> Array:
        """``how`` (``np.add``, ``np.maximum`` …) over the tokens of each row; ``empty`` for rows without tokens."""
        out = np.full(len(self), empty, dtype=np.float64)
        full = self.lengths > 0
        if full.any():
            out[full] = how.reduceat(np.asarray(values, dtype=np.float64), self.offsets[:-1][full])
        return out

    def sum(self, values: Array) -> Array:
        """Sum over the tokens of each row, ``[N]``; 0 for rows without tokens."""
        return self.reduce(values, np.add)

    def mean(self, values: Array) -> Array:
        """Mean over the tokens of each row, ``[N]``; NaN for rows without tokens."""
        with np.errstate(invalid="ignore"):
            return self.sum(values) / self.lengths

    def mean_lowest(self, values: Array, k: float) -> Array:
        """Mean of the ``ceil(k·n)`` lowest values of each row of ``n`` tokens, ``[N]``; NaN for empty rows."""
        validate.in_range(0, 1, k=k)

        def lowest(block: Array) -> Array:
            count = int(np.ceil(k * block.shape[1] - 1e-9))
            return np.partition(block, count - 1, axis=1)[:, :count].mean(axis=1)

        return self.by_length(values, lowest)

    def by_length(self, values: Array, function: Callable[[Array], Array]) -> Array:
        """Apply ``function`` to ``[rows of equal length, length]`` blocks, one value for each row; NaN for empty rows.

        Gathering rows of equal length makes any row-wise array function fast without padding.
        """
        values = np.asarray(values, dtype=np.float64)
        lengths = self.lengths
        out = np.full(len(self), np.nan)
        order = np.argsort(lengths, kind="stable")
        starts = np.searchsorted(lengths[order], np.unique(lengths))
        for rows in np.split(order, starts[1:]):
            if rows.size and lengths[rows[0]]:
                block = values[self.offsets[rows][:, None] + np.arange(lengths[rows[0]])]
                out[rows] = function(block)
        return out

    # ---- files --------------------------------------------------------------------------------------------------

    def write(self, path: str | Path) -> None:
        """Write as Parquet, atomically, in row groups of ``ROW_GROUP`` rows.

        Raises:
            BadInput: a statistic is not finite, so that attacks never need to check.
        """
        self.check()
        with replacing(path) as temporary, pq.ParquetWriter(temporary, arrow_schema(self.tokens), **_PARQUET) as writer:
            for start in range(0, max(len(self), 1), ROW_GROUP):
                writer.write_table(self.take(np.arange(start, min(start + ROW_GROUP, len(self)))).to_arrow())

    def check(self) -> None:
        """Refuse statistics that are not finite, naming the first record that has one."""
        for name, column in self.tokens.items():
            bad = np.flatnonzero(~np.isfinite(column))
            if bad.size:
                row = int(np.searchsorted(self.offsets, bad[0], side="right")) - 1
                raise BadInput(
                    f"record {self.record_id[row]!r}",
                    f"the model gives a {name} that is not finite ({column[bad[0]]}) on {bad.size} token(s)",
                    "Score in float32 (--dtype float32) or check that training did not diverge.",
                )

    def to_arrow(self) -> pa.Table:
        """As an Arrow table: plain row columns, list token columns."""
        arrays = [pa.array(self.rows[name], type=_ARROW[column.dtype]) for name, column in RECORD_COLUMNS.items()]
        offsets = pa.array(self.offsets, type=pa.int32())
        arrays += [
            pa.ListArray.from_arrays(offsets, pa.array(self.tokens[name], type=_ARROW[TOKEN_COLUMNS[name].dtype]))
            for name in TOKEN_COLUMNS
            if name in self.tokens
        ]
        return pa.Table.from_arrays(arrays, schema=arrow_schema(self.tokens))


_ARROW = {"int32": pa.int32(), "float32": pa.float32(), "bool": pa.bool_(), "object": pa.string()}
_PARQUET: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["record_id"]}


def arrow_schema(tokens: Mapping[str, Array] | set[str]) -> pa.Schema:
    """The Parquet schema of a table that has these token columns."""
    fields = [pa.field(name, _ARROW[column.dtype], nullable=False) for name, column in RECORD_COLUMNS.items()]
    fields += [
        pa.field(name, pa.list_(pa.field("element", _ARROW[column.dtype], nullable=False)), nullable=False)
        for name, column in TOKEN_COLUMNS.items()
        if name in tokens
    ]
    return pa.schema(fields, metadata={"reticent_schema": str(SCHEMA_VERSION)})


def from_arrow(table: pa.Table) -> TokenTable:
    """The opposite of ``TokenTable.to_arrow``."""
    table = table.combine_chunks()
    rows: dict[str, Array] = {}
    tokens: dict[str, Array] = {}
    offsets: Array = np.zeros(table.num_rows + 1, dtype=np.int64)
    for name in table.column_names:
        chunks = table.column(name).chunks
        column = chunks[0] if chunks else pa.array([], type=table.schema.field(name).type)
        if name in RECORD_COLUMNS:
            rows[name] = column.to_numpy(zero_copy_only=False)
        else:
            raw = column.offsets.to_numpy().astype(np.int64)
            offsets = raw - raw[0]
            tokens[name] = column.values.slice(raw[0], raw[-1] - raw[0]).to_numpy(zero_copy_only=False)
    return TokenTable(rows=rows, tokens=tokens, offsets=offsets)


def read_table(path: str | Path, columns: list[str] | None = None) -> TokenTable:
    """Read a whole table, or only the named token columns of it (row columns always come along)."""
    return from_arrow(_open(path).read(columns=_select(columns)))


def iter_tables(path: str | Path, columns: list[str] | None = None) -> Iterator[TokenTable]:
    """Read a table one row group at a time, for data that does not fit in memory."""
    file = _open(path)
    for group in range(file.num_row_groups):
        yield from_arrow(file.read_row_group(group, columns=_select(columns)))


def concat(tables: list[TokenTable]) -> TokenTable:
    """The rows of several tables, one after the other."""
    first = tables[0]
    return TokenTable(
        rows={name: np.concatenate([t.rows[name] for t in tables]) for name in first.rows},
        tokens={name: np.concatenate([t.tokens[name] for t in tables]) for name in first.tokens},
        offsets=_offsets(np.concatenate([t.lengths for t in tables])),
    )


def _open(path: str | Path) -> pq.ParquetFile:
    file = pq.ParquetFile(path)
    schema = (file.schema_arrow.metadata or {}).get(b"reticent_schema", b"none").decode()
    if schema != str(SCHEMA_VERSION):
        raise BadInput(
            str(path),
            f"has table schema {schema}, this version reads {SCHEMA_VERSION}",
            "Score again with this version.",
        )
    return file


def _select(columns: list[str] | None) -> list[str] | None:
    return None if columns is None else [*RECORD_COLUMNS, *columns]


def _offsets(lengths: Array) -> Array:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
