# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, rows_of


def test_rows_over_several_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"t{i}" for i in range(2500)]}), path, row_group_size=900)
    rows = list(rows_of(str(path)))
    assert [row.fields["text"] for row in rows] == [f"t{i}" for i in range(2500)]
    assert rows[-1].place == f"{path}, row 2500"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = pa.array([b"ok", b"caf\xe9", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": text}), path)
    good, bad, after = rows_of(str(path))
    assert isinstance(bad, BadRow)
    assert (bad.place, bad.why) == (f"{path}, row 2", "is not UTF-8 (byte 4 of a field)")
    assert (good.fields, after.fields) == ({"text": "ok"}, {"text": "fine"})


def test_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(BadInput, match="not readable Parquet"):
        list(rows_of(str(path)))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    with pytest.raises(BadInput, match="is empty"):
        list(rows_of(str(path)))
