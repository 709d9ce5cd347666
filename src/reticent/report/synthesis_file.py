# SPDX-License-Identifier: Apache-2.0
"""``synthesis.json``: how synthetic texts were made and what is promised, as versioned JSON with a shipped schema.

No text is in it, and under a promise nothing that the promise does not cover."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.synthesis import SynthesisResults
from reticent.report.json_file import dumped
from reticent.report.result_file import read_result, shipped_schema

FORMAT = "reticent.synthesis"
SYNTHESIS_VERSION = 1
"""``schema_version`` of the file. Increment when a field is added, removed or changes its meaning."""
SYNTHESIS_FILE = marked("synthesis", f'"format": "{FORMAT}"')
AGAIN = "Make the texts again in another folder."
DIGEST = "sha256 of the texts"
"""In ``provenance``: of the file of texts as it was made. It is a function of what was released."""


@cache
def synthesis_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``synthesis.json``, as shipped with the package."""
    return shipped_schema("synthesis")


def write_synthesis(path: str | Path, results: SynthesisResults) -> None:
    """Write the results, atomically.

    Raises:
        ValueError: a number is not finite.
        BadInput: there is a file that is none of these, or the folder cannot be written to.
    """
    refuse_foreign(path, SYNTHESIS_FILE)
    content = {"format": FORMAT, "schema_version": SYNTHESIS_VERSION, **encode(results)}
    write_text(path, dumped(content), private=False)


def read_synthesis(path: str | Path) -> SynthesisResults:
    """Read what `write_synthesis` wrote: equal results.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    return read_result(path, SynthesisResults, format_name=FORMAT, version=SYNTHESIS_VERSION, again=AGAIN)
