# SPDX-License-Identifier: Apache-2.0
"""JSON Lines: one JSON object a line, in UTF-8. Blank lines are skipped."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, Row, open_binary, reader

_BOM = b"\xef\xbb\xbf"


@reader("jsonl", suffixes=(".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"))
def rows(source: str) -> Iterator[Row | BadRow]:
    """Each line's object."""
    with open_binary(source) as file:
        try:
            for number, line in enumerate(file, start=1):
                stripped = (line.removeprefix(_BOM) if number == 1 else line).strip()
                if stripped:
                    yield _row(f"{source}:{number}", stripped)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise BadInput(
                source, f"cannot be unpacked ({error})", "Give the file again, it may be cut off."
            ) from error


def _row(place: str, line: bytes) -> Row | BadRow:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 (byte {error.start + 1} of the line is 0x{line[error.start]:02x})"
        return BadRow(place=place, why=why, fix="Save the file as UTF-8.")
    except json.JSONDecodeError as error:  # its message quotes no text
        why = f"is not valid JSON ({error.msg}, column {error.colno})"
        return BadRow(place=place, why=why, fix="Write one JSON object on each line.")
    except ValueError:
        return BadRow(place=place, why="holds a number too long to read", fix="Write such a number as a string.")
    except RecursionError:
        return BadRow(place=place, why="is nested too deeply", fix="Write one flat JSON object on each line.")
    if not isinstance(fields, dict):
        why = f"holds a JSON {type(fields).__name__}, not an object"
        return BadRow(place=place, why=why, fix='Write an object such as {"text": "…"} on each line.')
    return Row(place=place, fields=fields)
