# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.readers.reader import READERS, rows_of

FILES = [name for name in READERS.names() if READERS.get(name).suffixes]


@pytest.mark.parametrize("suffix", [*(suffix for name in FILES for suffix in READERS.get(name).suffixes), "", ".xyz"])
def test_missing(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(BadInput, match="no such file"):
        list(rows_of(str(tmp_path / f"gone{suffix}")))


def test_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(BadInput, match=r"no known format.*\.csv.*\.jsonl"):
        list(rows_of(str(tmp_path / "a.docx")))


def test_suffix_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "A.JSONL").write_text('{"text": "x"}')
    assert len(list(rows_of(str(tmp_path / "A.JSONL")))) == 1
