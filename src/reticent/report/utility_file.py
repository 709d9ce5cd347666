# SPDX-License-Identifier: Apache-2.0
"""``utility.json``: how useful synthetic texts are, as versioned JSON with a shipped schema. No text is in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.outputs import marked, refuse_empty, refuse_foreign
from reticent.core.text_utility import UtilityResults
from reticent.report.json_file import dumped
from reticent.report.result_file import read_result, shipped_schema
from reticent.report.utility_page import UTILITY_PAGE

FORMAT = "reticent.utility"
UTILITY_VERSION = 1
"""``schema_version`` of the file. Increment when a field is added, removed or changes its meaning."""
UTILITY_FILE = marked("utility", f'"format": "{FORMAT}"')
AGAIN = "Measure again into another folder."


@cache
def utility_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``utility.json``, as shipped with the package."""
    return shipped_schema("utility")


def utility_places(folder: str | Path) -> tuple[Path, Path]:
    """Where page and file go in ``folder``.

    Raises:
        BadInput: the folder is not named or is a file, or one of the two is there and is not what this wrote.
    """
    refuse_empty("out", folder)
    page, data = Path(folder) / "utility.html", Path(folder) / "utility.json"
    refuse_foreign(page, UTILITY_PAGE)
    refuse_foreign(data, UTILITY_FILE)
    return page, data


def write_utility(path: str | Path, results: UtilityResults) -> None:
    """Write the results, atomically, for their owner only: no promise covers them.

    Raises:
        ValueError: a number is not finite.
        BadInput: there is a file that is none of these, or the folder cannot be written to.
    """
    refuse_foreign(path, UTILITY_FILE)
    write_text(path, dumped({"format": FORMAT, "schema_version": UTILITY_VERSION, **encode(results)}))


def read_utility(path: str | Path) -> UtilityResults:
    """Read what `write_utility` wrote: equal results.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    return read_result(path, UtilityResults, format_name=FORMAT, version=UTILITY_VERSION, again=AGAIN)
