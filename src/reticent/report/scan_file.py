# SPDX-License-Identifier: Apache-2.0
"""``scan.json``: what a scan saw, as a versioned JSON file with a shipped schema. No text of private data is in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.scan_results import ScanResults
from reticent.report.json_file import dumped
from reticent.report.result_file import read_result, shipped_schema

FORMAT = "reticent.scan"
SCAN_VERSION = 1
"""``schema_version`` of the file. Increment when a field is added, removed or changes its meaning."""
SCAN_FILE = marked("scan", f'"format": "{FORMAT}"')
AGAIN = "Run the scan again."


@cache
def scan_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``scan.json``, as shipped with the package."""
    return shipped_schema("scan")


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
    return read_result(path, ScanResults, format_name=FORMAT, version=SCAN_VERSION, again=AGAIN)
