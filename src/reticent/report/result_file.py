# SPDX-License-Identifier: Apache-2.0
"""Files of results of one format and version: reading them, and the schema that is shipped for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from reticent.core.codec import decode
from reticent.core.errors import BadInput
from reticent.report.json_file import read_json

T = TypeVar("T")
HEAD = ("format", "schema_version")
"""Fields of a file that are not of the results."""


def shipped_schema(name: str) -> dict[str, Any]:
    """The content of ``NAME.schema.json``, as shipped with the package."""
    text = files("reticent.report").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def read_result(path: str | Path, kind: type[T], *, format_name: str, version: int, again: str) -> T:
    """The results in a file.

    Args:
        path: of the file.
        kind: type of the results.
        format_name: such as ``"reticent.scan"``.
        version: that is read.
        again: advice on how to make the file again.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    content = read_json(Path(path), again)
    if not isinstance(content, Mapping) or content.get("format") != format_name:
        raise BadInput(str(path), f"is no {format_name.rpartition('.')[2]} that reticent wrote", again)
    found = content.get("schema_version")
    if found != version:
        newer = isinstance(found, int) and found > version
        why = f"is of version {found!r}, this reticent reads {version}"
        raise BadInput(str(path), why, "Install a newer reticent." if newer else again)
    try:
        return decode(kind, {key: value for key, value in content.items() if key not in HEAD})
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(str(path), f"is broken ({error})", again) from error
