# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.readers.reader import READERS, rows_of


def test_registry_finds_every_file() -> None:
    assert READERS.names() == ["csv", "hub", "json", "jsonl", "mbox", "parquet", "text"]


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.csv", "gone.mbox", "gone.parquet", "gone", "gone.xyz"])
def test_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="no such file"):
        list(rows_of(str(tmp_path / name)))


def test_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(BadInput, match=r"no known format.*\.csv.*\.jsonl"):
        list(rows_of(str(tmp_path / "a.docx")))


def test_suffix_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "A.JSONL").write_text('{"text": "x"}')
    assert len(list(rows_of(str(tmp_path / "A.JSONL")))) == 1
