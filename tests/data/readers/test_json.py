# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, rows_of


def test_list_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "x"},\n 3]')
    good, bad = rows_of(str(path))
    assert good.place == f"{path}[0]"
    assert isinstance(bad, BadRow)


@pytest.mark.parametrize(
    ("content", "why", "line"),
    [
        (b"", "is empty", ""),
        (b"[]", "is empty", ""),
        (b'{"text": "x"}', "not a JSON list", ""),
        (b'[{"text": "x"},\n{"text": "y"},\n{"text"', "not valid JSON", ":3"),
        (b'[{"text": "x"},\n{"text": "\xff"}]', "not UTF-8", ":2"),
    ],
)
def test_refused(tmp_path: Path, content: bytes, why: str, line: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=why) as error:
        list(rows_of(str(path)))
    assert error.value.given == f"{path}{line}"
