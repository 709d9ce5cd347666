# SPDX-License-Identifier: Apache-2.0
"""Generations: what a model wrote after each of some prefixes. Imports no torch.

They may repeat private text word for word: keep them in the run folder or the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput

SCHEMA = 1
"""Schema version. Increment when a column changes."""

_FIELDS = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("stopped", pa.bool_(), nullable=False),
        pa.field("token_id", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("logp", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False),
    ],
    metadata={"reticent_generations": str(SCHEMA)},
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Generations:
    """``M`` texts in the order of (row, sample): each prefix has the same number of samples.

    Args:
        row: ``[M]`` int32: which prefix it follows.
        sample: ``[M]`` int32: the how-manieth for that prefix.
        stopped: ``[M]`` bool: the model ended it by itself. The token that ends a text is not part of it.
        token_id: ``[T]`` int32: all texts one after the other.
        logp: ``[T]`` float32, nats: log p of each token under the model itself (temperature 1, all tokens), whatever
            it was drawn by.
        offsets: ``[M + 1]`` int64: text ``i`` is ``offsets[i]:offsets[i + 1]``.
    """

    row: npt.NDArray[np.int32]
    sample: npt.NDArray[np.int32]
    stopped: npt.NDArray[np.bool_]
    token_id: npt.NDArray[np.int32]
    logp: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        rows, tokens = (self.row, self.sample, self.stopped), (self.token_id, self.logp)
        if any(len(column) != len(self) for column in rows) or any(len(c) != self.offsets[-1] for c in tokens):
            raise ValueError("the columns of these generations do not fit each other")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def samples(self) -> int:
        """Texts for each prefix."""
        return int(self.sample.max()) + 1 if len(self) else 0

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        """Token ids of the ``index``-th text, the prefix left out."""
        return self.token_id[self.offsets[index] : self.offsets[index + 1]]

    def of(self, row: int, sample: int = 0) -> npt.NDArray[np.int32]:
        """Token ids of one sample after one prefix."""
        return self.tokens(row * self.samples + sample)

    def texts(self, tokenizer: Any) -> list[str]:
        """Every text as characters, ``[M]``. Special tokens are left out."""
        parts = [self.tokens(index).tolist() for index in range(len(self))]
        return [str(tokenizer.decode(part, skip_special_tokens=True)) for part in parts]

    @property
    def nll(self) -> npt.NDArray[np.float64]:
        """``[M]``: negative log-likelihood of each text under the model that wrote it, in nats."""
        ends = np.concatenate([[0.0], np.cumsum(-self.logp.astype(np.float64))])
        total: npt.NDArray[np.float64] = ends[self.offsets[1:]] - ends[self.offsets[:-1]]
        return total

    def write(self, path: str | Path) -> None:
        """Write as Parquet, atomically."""
        lists = [
            pa.ListArray.from_arrays(pa.array(self.offsets, pa.int32()), pa.array(column))
            for column in (self.token_id, self.logp)
        ]
        columns = [pa.array(column) for column in (self.row, self.sample, self.stopped)] + lists
        with replacing(path) as temporary:
            pq.write_table(pa.Table.from_arrays(columns, schema=_FIELDS), temporary, compression="zstd")


def read_generations(path: str | Path) -> Generations:
    """Read what ``Generations.write`` wrote.

    Raises:
        BadInput: the file is of another version.
    """
    table = pq.read_table(path).combine_chunks()
    if (table.schema.metadata or {}).get(b"reticent_generations") != str(SCHEMA).encode():
        raise BadInput(str(path), "holds no generations that this version reads", "Generate again.")
    flat: dict[str, Any] = {}
    offsets: npt.NDArray[np.int64] = np.zeros(table.num_rows + 1, dtype=np.int64)
    for name in ("token_id", "logp"):
        chunks = table.column(name).chunks
        column = chunks[0] if chunks else pa.array([], type=table.schema.field(name).type)
        offsets = column.offsets.to_numpy().astype(np.int64) if chunks else offsets
        flat[name] = column.values.to_numpy(zero_copy_only=False)
    plain = {name: table.column(name).to_numpy() for name in ("row", "sample", "stopped")}
    return Generations(**plain, **flat, offsets=offsets)


def join_generations(parts: Sequence[Generations]) -> Generations:
    """Texts of several calls, one after the other; ``row`` counts on from part to part."""
    rows, start = [], 0
    for part in parts:
        rows.append(part.row + start)
        start += len(part) // max(part.samples, 1)
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Generations(
        row=np.concatenate(rows).astype(np.int32),
        sample=np.concatenate([part.sample for part in parts]),
        stopped=np.concatenate([part.stopped for part in parts]),
        token_id=np.concatenate([part.token_id for part in parts]),
        logp=np.concatenate([part.logp for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
    )
