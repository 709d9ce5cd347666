# SPDX-License-Identifier: Apache-2.0
"""JSON: one list of objects, as instruction data is often given. Other shapes are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

from reticent.core.errors import BadInput
from reticent.data.readers.reader import BadRow, InputRow, example_file, open_binary, reader


@reader("json", suffixes=(".json", ".json.gz"), example=example_file("a.json", '[{"text": "one"}, {"text": "two"}]'))
def rows(source: str) -> Iterator[InputRow | BadRow]:
    """Each object of the list; a place is ``file[index]``."""
    with open_binary(source) as file:
        content = file.read()
    if not content.strip():
        return
    try:
        parsed = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"is not UTF-8 (byte {error.start + 1} is 0x{content[error.start]:02x})"
        raise BadInput(f"{source}:{line}", reason, "Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        reason = f"is not valid JSON ({error.msg}, column {error.colno})"
        raise BadInput(
            f"{source}:{error.lineno}", reason, "Mend it; a file of one object a line is named .jsonl."
        ) from error
    except ValueError as error:
        raise BadInput(source, "holds a number too long to read", "Write such a number as a string.") from error
    except RecursionError as error:
        raise BadInput(source, "is nested too deeply", "Write a list of flat objects.") from error
    if not isinstance(parsed, list):
        raise BadInput(source, "is not a JSON list", 'Write a list of objects such as [{"text": "…"}], or use .jsonl.')
    for index, fields in enumerate(parsed):
        place = f"{source}[{index}]"
        if isinstance(fields, dict):
            yield InputRow(place=place, fields=fields)
        else:
            reason = f"holds a {type(fields).__name__}, not an object"
            yield BadRow(place=place, why=reason, fix="Write a list of objects.")
