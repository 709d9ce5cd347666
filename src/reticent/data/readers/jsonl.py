# SPDX-License-Identifier: Apache-2.0
"""JSON Lines: one JSON object a line, in UTF-8 (or UTF-16 with its mark). Blank lines are skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator

from reticent.data.readers.reader import BadRow, InputRow, example_file, lines_of, open_binary, reader

_BOM = b"\xef\xbb\xbf"


@reader(
    "jsonl",
    suffixes=(".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
    example=example_file("a.jsonl", '{"text": "one"}\n{"text": "two"}\n'),
)
def rows(source: str) -> Iterator[InputRow | BadRow]:
    """Each line's object."""
    with open_binary(source) as file:
        for number, line in lines_of(source, file):
            stripped = (line.removeprefix(_BOM) if number == 1 else line).strip()
            if stripped:
                yield _row(f"{source}:{number}", stripped)


def _row(place: str, line: bytes) -> InputRow | BadRow:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte {error.start + 1} of the line is 0x{line[error.start]:02x})"
        return BadRow(place=place, why=reason, fix="Save the file as UTF-8.")
    except json.JSONDecodeError as error:  # its message quotes no text
        reason = f"is not valid JSON ({error.msg}, column {error.colno})"
        return BadRow(place=place, why=reason, fix="Write one JSON object on each line.")
    except ValueError:
        return BadRow(place=place, why="holds a number too long to read", fix="Write such a number as a string.")
    except RecursionError:
        return BadRow(place=place, why="is nested too deeply", fix="Write one flat JSON object on each line.")
    if not isinstance(fields, dict):
        reason = f"holds a JSON {type(fields).__name__}, not an object"
        return BadRow(place=place, why=reason, fix='Write an object such as {"text": "…"} on each line.')
    return InputRow(place=place, fields=fields)
