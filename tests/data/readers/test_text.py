# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from reticent.core.errors import BadInput
from reticent.data.read import read


def test_paragraphs_are_records(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\ufeff = Title = \n \n\nfirst line \nsecond line\n\n\nlast", encoding="utf-8")
    assert [record.text for record in read(path).records] == ["= Title =", "first line\nsecond line", "last"]


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "book.txt.gz"
    path.write_bytes(gzip.compress(b"one\n\ntwo\n"))
    assert [record.text for record in read(path).records] == ["one", "two"]


def test_a_paragraph_that_is_not_utf8_is_named_and_can_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(b"good\n\nline\nb\xe4d\nline\n\ngood too\n")
    with pytest.raises(BadInput, match=r"book.txt:3.*byte 2 of line 4 is 0xe4"):
        read(path)
    dataset = read(path, on_bad_row="skip")
    assert [record.text for record in dataset.records] == ["good", "good too"]
    assert dataset.n_rejected == 1


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n \n")
    with pytest.raises(BadInput, match="is empty"):
        read(path)
