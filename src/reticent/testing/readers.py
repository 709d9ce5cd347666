# SPDX-License-Identifier: Apache-2.0
"""Conformance of readers: ``check_reader("my_format")`` reads the reader's own example."""

from __future__ import annotations

import tempfile
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.data.readers.reader import READERS, BadRow, InputRow, Reader, rows_of

ROWS = 2
"""Rows of an example."""


def check_reader(reader: Reader | str) -> None:
    """Read a reader's example, and a file that is not there.

    Raises:
        AssertionError: the reader has no example, is not found by the name or shape of it, or gives other rows than two
            with a text, each at a place of its own and the same again; or it does not refuse what is not there.
    """
    reader = READERS.get(reader) if isinstance(reader, str) else reader
    assert reader.example is not None, f"{reader.name}: needs an example (example=), which writes a source of two rows"
    with tempfile.TemporaryDirectory() as folder:
        source = reader.example(Path(folder))
        rows = list(reader.rows(source))
        bad = [row for row in rows if isinstance(row, BadRow)]
        assert not bad, f"{reader.name}: its example has a bad row: {bad[0].why}"
        assert len(rows) == ROWS, f"{reader.name}: its example has {len(rows)} rows, not {ROWS}"
        for row in rows:
            assert isinstance(row, InputRow), f"{reader.name}: a row is a {type(row).__name__}"
            text = row.fields.get("text")
            assert isinstance(text, str), f"{reader.name}: a row has no field `text`"
            assert text.strip(), f"{reader.name}: a row has an empty text"
            assert row.place.startswith(source), (
                f"{reader.name}: the place {row.place!r} does not begin with the source"
            )
        assert len({row.place for row in rows}) == ROWS, f"{reader.name}: two rows have the same place"
        assert list(reader.rows(source)) == rows, f"{reader.name}: a second reading gives other rows"
        assert list(rows_of(source)) == rows, f"{reader.name}: another reader takes its example"
        for suffix in reader.suffixes:
            try:
                list(rows_of(str(Path(folder) / f"gone{suffix}")))
            except BadInput:
                continue
            raise AssertionError(f"{reader.name}: reads a file that is not there")
