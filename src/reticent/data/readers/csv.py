# SPDX-License-Identifier: Apache-2.0
"""CSV and TSV with a header line, in UTF-8."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, Row, open_binary, reader

_MAX_FIELD = 2**31 - 1
"""The module's own limit, 131,072 characters, refuses long documents."""


@reader("csv", suffixes=(".csv", ".tsv", ".csv.gz", ".tsv.gz"))
def rows(source: str) -> Iterator[Row | BadRow]:
    """Each data line's fields; the place is the line on which the row begins."""
    delimiter = "\t" if source.lower().removesuffix(".gz").endswith(".tsv") else ","
    csv.field_size_limit(max(_MAX_FIELD, csv.field_size_limit()))
    # surrogateescape keeps bytes that are not UTF-8 in their field, so that only their row is bad
    with io.TextIOWrapper(open_binary(source), "utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        begins = 1
        try:
            header = next(lines, [])
            _check_header(source, header)
            begins = lines.line_num + 1
            for values in lines:
                if values:
                    yield _row(f"{source}:{begins}", header, values)
                begins = lines.line_num + 1
        except csv.Error as error:
            raise BadInput(f"{source}:{begins}", f"is not valid CSV ({error})", "Mend the quotes.") from error
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise BadInput(
                source, f"cannot be unpacked ({error})", "Give the file again, it may be cut off."
            ) from error


def _check_header(source: str, header: list[str]) -> None:
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise BadInput(f"{source}:1", f"names the column {min(repeated)!r} twice", "Give each column its own name.")


def _row(place: str, header: list[str], values: list[str]) -> Row | BadRow:
    if len(values) != len(header):
        why = f"has {len(values)} fields where the header has {len(header)}"
        return BadRow(place=place, why=why, fix="Put quotes around fields that hold commas or line breaks.")
    for name, value in zip(header, values, strict=True):
        escaped = next((char for char in value if "\udc80" <= char <= "\udcff"), None) if not value.isascii() else None
        if escaped is not None:
            why = f"is not UTF-8 (field {name!r} holds the byte 0x{ord(escaped) - 0xDC00:02x})"
            return BadRow(place=place, why=why, fix="Save the file as UTF-8.")
    return Row(place=place, fields=dict(zip(header, values, strict=True)))
