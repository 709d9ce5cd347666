# SPDX-License-Identifier: Apache-2.0
"""``federation.json``: how a federated fine-tuning went, as a versioned JSON file with a shipped schema.

No private text is in it, and under a promise nothing that the promise does not cover."""

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
from reticent.core.federation import FederationResults
from reticent.core.outputs import marked, refuse_foreign
from reticent.report.json_file import dumped, read_json

FORMAT = "reticent.federation"
FEDERATION_VERSION = 1
"""``schema_version`` of the file. Increment when a field is added, removed or changes its meaning."""
FEDERATION_FILE = marked("federation", f'"format": "{FORMAT}"')
AGAIN = "Run the federation again."


@cache
def federation_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``federation.json``, as shipped with the package."""
    content: dict[str, Any] = json.loads(
        files("reticent.report").joinpath("federation.schema.json").read_text(encoding="utf-8")
    )
    return content


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
    content = read_json(Path(path), AGAIN)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise BadInput(str(path), "is no federation that reticent wrote", AGAIN)
    version = content.get("schema_version")
    if version != FEDERATION_VERSION:
        newer = isinstance(version, int) and version > FEDERATION_VERSION
        why = f"is of version {version!r}, this reticent reads {FEDERATION_VERSION}"
        raise BadInput(str(path), why, "Install a newer reticent." if newer else AGAIN)
    try:
        fields = {key: value for key, value in content.items() if key not in ("format", "schema_version")}
        return decode(FederationResults, fields)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(str(path), f"is broken ({error})", AGAIN) from error
