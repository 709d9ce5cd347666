# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, InputRow, rows_of


def test_rows_places_blank_lines_and_bom(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "\xc3\xa9"}\n\n  \r\n{"text": "b\\u2028c"}\r\n{"text": "last"}')
    rows = list(rows_of(str(path)))
    assert [(row.place, row.fields["text"]) for row in rows if isinstance(row, InputRow)] == [
        (f"{path}:1", "é"),
        (f"{path}:4", "b\u2028c"),
        (f"{path}:5", "last"),
    ]


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "x"}\n' * 100))
    assert len(list(rows_of(str(path)))) == 100
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(BadInput, match="cannot be unpacked"):
        list(rows_of(str(path)))
    path.write_bytes(b'{"text": "not packed"}')
    with pytest.raises(BadInput, match="cannot be unpacked"):
        list(rows_of(str(path)))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"text": "abc', "not valid JSON"),
        (b'{"text": "caf\xe9"}', r"not UTF-8 \(byte 14 of the line is 0xe9\)"),
        (b'["a"]', "JSON list, not an object"),
        (b"3", "JSON int, not an object"),
        (b"[" * 100_000, "nested too deeply|not valid JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "number too long"),
    ],
)
def test_bad_line_is_named_and_the_next_one_read(tmp_path: Path, line: bytes, why: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "ok"}\n' + line + b"\n" + json.dumps({"text": "ok"}).encode())
    good, bad, after = rows_of(str(path))
    assert isinstance(good, InputRow)
    assert isinstance(after, InputRow)
    assert isinstance(bad, BadRow)
    assert bad.place == f"{path}:2"
    assert re.search(why, bad.why)
