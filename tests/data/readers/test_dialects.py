# SPDX-License-Identifier: Apache-2.0
"""Encodings and dialects of CSV and its kin, as programs export them: read, or said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.read import read
from reticent.data.readers import reader

ROWS = [("Grüße, Anna; und | mehr", "ana"), ("zwei\tDinge", "bo"), ('sie sagte "ja"', "ana")]


def table(delimiter: str, *, first: str = "") -> str:
    def quoted(word: str) -> str:
        return '"' + word.replace('"', '""') + '"'

    rows = [("text", "user"), *((quoted(text), user) for text, user in ROWS)]
    return first + "".join(delimiter.join(row) + "\r\n" for row in rows)


def texts(path: Path) -> list[tuple[str | None, str | None]]:
    return [(record.text, record.user) for record in read(path).records]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", [".csv", ".csv.gz"])
def test_a_table_is_read_whatever_separates_its_fields(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    path, content = tmp_path / f"notes{end}", table(delimiter).encode(encoding)
    path.write_bytes(gzip.compress(content) if end.endswith("gz") else content)
    assert texts(path) == ROWS


def test_excels_own_first_line_names_the_separator(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_text(table(";", first="sep=;\r\n"), encoding="utf-8", newline="")
    assert texts(path) == ROWS
    path.write_text("sep=;\r\ntext;user\r\na\r\n", encoding="utf-8", newline="")
    with pytest.raises(BadInput, match=r"notes.csv:3: has 1 fields where the header has 2, separated by semicolons"):
        read(path)


def test_the_header_alone_decides(tmp_path: Path) -> None:
    """A row must not decide how others are read."""
    path = tmp_path / "notes.csv"
    path.write_text("text,user\na;b;c;d,ana\n")
    assert texts(path) == [("a;b;c;d", "ana")]
    path.write_text("text\na;b\n")
    assert texts(path) == [("a;b", None)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("end", [".jsonl", ".json", ".txt"])
def test_other_formats_are_read_with_the_mark_of_their_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    path, rows = tmp_path / f"notes{end}", [{"text": text} for text, _ in ROWS]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content = {".jsonl": lines, ".json": json.dumps(rows), ".txt": "\n\n".join(text for text, _ in ROWS)}[end]
    path.write_bytes(content.encode(encoding))
    assert [text for text, _ in texts(path)] == [text for text, _ in ROWS]


def test_utf16_without_its_mark_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_bytes(table(",").encode("utf-16-le"))
    with pytest.raises(BadInput, match="looks like UTF-16"):
        read(path)


@pytest.mark.parametrize("end", [".jsonl", ".txt"])
def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(reader, "LONGEST_LINE", 100)
    path = tmp_path / f"notes{end}"
    path.write_text("short\n" * 3 + "x" * 200) if end == ".txt" else path.write_text('{"text": "' + "x" * 200 + '"}')
    with pytest.raises(BadInput, match="is a line of more than"):
        read(path)
