# SPDX-License-Identifier: Apache-2.0
"""JSON files that people look into: strict in what is read, and laid out so that a curve is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from reticent.core.errors import BadInput


def read_json(path: Path, fix: str) -> Any:
    """The content of a JSON file.

    Raises:
        BadInput: it cannot be read or is no JSON (which has no NaN and no infinities); ``fix`` says what to do.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", fix) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(str(path), f"is not valid JSON ({error})", fix) from error


def dumped(content: Any) -> str:
    """The text of a file, indented, in which a list of plain values stays on one line.

    Raises:
        ValueError: a number is infinite or NaN.
    """
    return _dump(content) + "\n"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _dump(value: Any, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = (f"{inner}{_dump(key)}: {_dump(entry, inner)}" for key, entry in value.items())
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return "[\n" + ",\n".join(inner + _dump(entry, inner) for entry in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
