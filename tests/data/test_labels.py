# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reticent.core.errors import BadInput
from reticent.data.labels import read_labels

EXPECTED = {"a": True, "b": False, "3": True}


def test_formats_and_words(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,member\na,yes\nb,0\n3,MEMBER\n")
    (tmp_path / "m.jsonl").write_text(
        '{"record_id": "a", "member": true}\n{"id": "b", "member": "held_out"}\n{"id": 3, "member": 1}\n'
    )
    pq.write_table(pa.table({"record_id": ["a", "b", "3"], "member": [True, False, True]}), tmp_path / "m.parquet")
    for name in ("m.csv", "m.jsonl", "m.parquet"):
        assert read_labels(str(tmp_path / name)) == EXPECTED


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("id,member\na,1\na,0\n", "given twice"),
        ("id,member\na,perhaps\n", "member is 'perhaps'"),
        ("id,label\na,1\n", "no id and member, only 'id', 'label'"),
        ("name,member\na,1\n", "no id and member"),
        ("id,member\na\n", "has 1 fields"),
    ],
)
def test_refused(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(BadInput, match=why) as error:
        read_labels(str(tmp_path / "m.csv"))
    assert "m.csv:" in error.value.given
