# SPDX-License-Identifier: Apache-2.0
"""CSV and TSV with a header line, in UTF-8 or with the mark of UTF-16. Fields are separated by what the header uses:
commas, semicolons (Excel in much of Europe), tabs or bars."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, InputRow, example_file, open_binary, reader

_LONGEST_FIELD = 1 << 26
"""Characters. The module's own limit, 131,072, refuses long documents; beyond this one nobody trains on a record."""

_DELIMITERS = (",", ";", "\t", "|")
"""Possible separators of fields; of two that stand in a header equally often the first counts."""

_SHOWN = defaultdict(lambda: "the separator", {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"})

_NAMED = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
"""A first line by which Excel is told the separator."""


@reader(
    "csv", suffixes=(".csv", ".tsv", ".csv.gz", ".tsv.gz"), example=example_file("a.csv", "text,user\none,u1\ntwo,u2\n")
)
def rows(source: str) -> Iterator[InputRow | BadRow]:
    """Each data line's fields; the place is the line on which the row begins."""
    csv.field_size_limit(_LONGEST_FIELD)
    # surrogateescape keeps bytes that are not UTF-8 in their field, so that only their row is bad
    with (
        open_binary(source) as binary,
        io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline="") as file,
    ):
        first = file.readline(_LONGEST_FIELD)
        named = _NAMED.fullmatch(first)
        first, skipped = (file.readline(_LONGEST_FIELD), 1) if named else (first, 0)
        delimiter = named[1] if named else _delimiter(source, first)
        lines = csv.reader(itertools.chain([first] if first else [], file), delimiter=delimiter, strict=True)
        begins = 1 + skipped
        try:
            header = next(lines, [])
            _check_header(f"{source}:{begins}", header)
            begins = lines.line_num + 1 + skipped
            for values in lines:
                if values:
                    yield _row(f"{source}:{begins}", header, values, delimiter)
                begins = lines.line_num + 1 + skipped
        except csv.Error as error:
            raise BadInput(f"{source}:{begins}", f"is not valid CSV ({error})", "Mend the quotes.") from error


def _delimiter(source: str, header: str) -> str:
    """The separator of fields, by the name of the file and the header alone: no record decides how others are read."""
    if source.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    outside = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=outside.count) if any(map(outside.count, _DELIMITERS)) else ","


def _check_header(place: str, header: list[str]) -> None:
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise BadInput(place, f"names the column {min(repeated)!r} twice", "Give each column its own name.")


def _row(place: str, header: list[str], values: list[str], delimiter: str) -> InputRow | BadRow:
    if len(values) != len(header):
        reason = f"has {len(values)} fields where the header has {len(header)}, separated by {_SHOWN[delimiter]}"
        fix = f"Put quotes around fields that hold {_SHOWN[delimiter]} or line breaks."
        return BadRow(place=place, why=reason, fix=fix)
    for name, value in zip(header, values, strict=True):
        escaped = next((char for char in value if "\udc80" <= char <= "\udcff"), None) if not value.isascii() else None
        if escaped is not None:
            reason = f"is not UTF-8 (field {name!r} holds the byte 0x{ord(escaped) - 0xDC00:02x})"
            return BadRow(place=place, why=reason, fix="Save the file as UTF-8.")
    return InputRow(place=place, fields=dict(zip(header, values, strict=True)))
