# SPDX-License-Identifier: Apache-2.0
"""``comparison.json``: a Comparison as a versioned JSON file with a shipped schema. No text of the data is in it.

An estimate is an object with the fields of `Estimate`; an end of an interval without a bound is ``null``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.codec import decode, encode
from reticent.core.comparison import Comparison
from reticent.core.errors import BadInput

FORMAT = "reticent.comparison"
COMPARISON_VERSION = 3
"""``schema_version`` of the file. Raise whenever a field is added, removed or changes its meaning."""

READABLE = (2, COMPARISON_VERSION)
"""A setting of version 2 has no ``schedule``: it is linear, which is the default."""


@cache
def comparison_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``comparison.json``, as shipped with the package."""
    return json.loads(files("reticent.report").joinpath("comparison.schema.json").read_text(encoding="utf-8"))


def write_comparison(path: str | Path, comparison: Comparison) -> None:
    """Write ``comparison`` to ``path``, atomically.

    Raises:
        ValueError: a number that must be finite is not (a bug of the comparison).
        BadInput: the folder cannot be written to, or the disk is full.
    """
    content = {"format": FORMAT, "schema_version": COMPARISON_VERSION, **encode(comparison)}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", private=False)


def read_comparison(path: str | Path) -> Comparison:
    """Read what `write_comparison` wrote: an equal Comparison.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(str(path), "is missing", "Run reticent compare.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(str(path), f"is not valid JSON ({error})", "Run reticent compare again.") from error
    version = content.pop("schema_version", None) if isinstance(content, dict) else None
    if version not in READABLE or content.pop("format", None) != FORMAT:
        newer = isinstance(version, int) and version > COMPARISON_VERSION
        raise BadInput(
            str(path),
            f"is no comparison of version {COMPARISON_VERSION}" + (f" but of version {version}" if newer else ""),
            "Install a newer reticent." if newer else "Run reticent compare again; what is trained stays trained.",
        )
    try:
        return decode(Comparison, content)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Run reticent compare again.") from error
