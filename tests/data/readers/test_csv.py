# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, InputRow, rows_of


def test_quotes_line_breaks_and_the_line_a_row_begins_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufefftext,user\n"a, ""b""\nc",é\n\nd,f\n'.encode())
    assert list(rows_of(str(path))) == [
        InputRow(place=f"{path}:2", fields={"text": 'a, "b"\nc', "user": "é"}),
        InputRow(place=f"{path}:5", fields={"text": "d", "user": "f"}),
    ]


def test_tabs_gzip_and_long_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    long = "word " * 100_000
    path.write_bytes(gzip.compress(f"text\tuser\n{long}\tu,v\n".encode()))
    (row,) = rows_of(str(path))
    assert isinstance(row, InputRow)
    assert row.fields == {"text": long, "user": "u,v"}


def test_bad_rows_are_named_and_the_next_ones_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,user\na\nb,\xe9\nc,d,e\nf,g\n")
    few, latin, many, good = rows_of(str(path))
    assert [row.place for row in (few, latin, many, good)] == [f"{path}:{line}" for line in (2, 3, 4, 5)]
    assert isinstance(few, BadRow)
    assert "1 fields where the header has 2" in few.why
    assert isinstance(latin, BadRow)
    assert "not UTF-8 (field 'user' holds the byte 0xe9)" in latin.why
    assert isinstance(many, BadRow)
    assert isinstance(good, InputRow)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is empty"),
        ("text,user\n", "is empty"),
        ("text,text\na,b\n", "'text' twice"),
        ('text\n"a', "not valid CSV"),
    ],
)
def test_refused(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(BadInput, match=why):
        list(rows_of(str(path)))
