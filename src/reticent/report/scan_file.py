# SPDX-License-Identifier: Apache-2.0
"""``scan.json``: what a scan saw, as a versioned JSON file with a shipped schema. No text of private data is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.scan import ScanResults
from reticent.report.json_file import dumped, read_json

FORMAT = "reticent.scan"
SCAN_VERSION = 1
"""``schema_version`` of the file. Increment when a field is added, removed or changes its meaning."""
SCAN_FILE = marked("scan", f'"format": "{FORMAT}"')
AGAIN = "Run the scan again."


@cache
def scan_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``scan.json``, as shipped with the package."""
    content: dict[str, Any] = json.loads(
        files("reticent.report").joinpath("scan.schema.json").read_text(encoding="utf-8")
    )
    return content


def write_scan(path: str | Path, results: ScanResults) -> None:
    """Write the results, atomically.

    Raises:
        ValueError: a number that must be finite is not (a bug of a scanner).
        BadInput: there is a file that is none of these, or the folder cannot be written to.
    """
    refuse_foreign(path, SCAN_FILE)
    write_text(path, dumped({"format": FORMAT, "schema_version": SCAN_VERSION, **encode(results)}), private=False)


def read_scan(path: str | Path) -> ScanResults:
    """Read what `write_scan` wrote: equal results.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    content = read_json(Path(path), AGAIN)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise BadInput(str(path), "is no scan that reticent wrote", AGAIN)
    version = content.get("schema_version")
    if version != SCAN_VERSION:
        newer = isinstance(version, int) and version > SCAN_VERSION
        why = f"is of version {version!r}, this reticent reads {SCAN_VERSION}"
        raise BadInput(str(path), why, "Install a newer reticent." if newer else AGAIN)
    try:
        fields = {key: value for key, value in content.items() if key not in ("format", "schema_version")}
        return decode(ScanResults, fields)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(str(path), f"is broken ({error})", AGAIN) from error
