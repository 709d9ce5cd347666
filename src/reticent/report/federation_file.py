# SPDX-License-Identifier: Apache-2.0
"""``federation.json``: how a federated fine-tuning went, as a versioned JSON file with a shipped schema.

No private text is in it, and under a promise nothing that the promise does not cover."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.federation import FederationResults
from reticent.core.outputs import marked, refuse_foreign
from reticent.report.json_file import dumped
from reticent.report.result_file import read_result, shipped_schema

FORMAT = "reticent.federation"
FEDERATION_VERSION = 2
"""``schema_version`` of the file. Increment when a field is added, removed or changes its meaning."""
FEDERATION_FILE = marked("federation", f'"format": "{FORMAT}"')
AGAIN = "Run the federation again."


@cache
def federation_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``federation.json``, as shipped with the package."""
    return shipped_schema("federation")


def write_federation(path: str | Path, results: FederationResults) -> None:
    """Write the results, atomically.

    Raises:
        ValueError: a number is not finite.
        BadInput: there is a file that is none of these, or the folder cannot be written to.
    """
    refuse_foreign(path, FEDERATION_FILE)
    content = {"format": FORMAT, "schema_version": FEDERATION_VERSION, **encode(results)}
    write_text(path, dumped(content), private=False)


def read_federation(path: str | Path) -> FederationResults:
    """Read what `write_federation` wrote: equal results.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    return read_result(path, FederationResults, format_name=FORMAT, version=FEDERATION_VERSION, again=AGAIN)
