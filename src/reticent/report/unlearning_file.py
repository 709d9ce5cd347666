# SPDX-License-Identifier: Apache-2.0
"""``unlearning.json`` and ``certificate.json``: what was found of an unlearning, as versioned JSON files with shipped
schemas. No text of the data is in them unless somebody asked for it.

An estimate is an object with the fields of `Estimate`; an end of an interval without a bound is ``null``.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.unlearning import Certificate, UnlearningResults
from reticent.report.json_file import dumped
from reticent.report.result_file import read_result, shipped_schema

FORMAT, CERTIFICATE_FORMAT = "reticent.unlearning", "reticent.certificate"
UNLEARNING_VERSION = 1
"""``schema_version`` of both files. Increment when a field is added, removed or changes its meaning."""
AGAIN = "Run the verification again."


@cache
def unlearning_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``unlearning.json``, as shipped with the package."""
    return shipped_schema("unlearning")


@cache
def certificate_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``certificate.json``, as shipped with the package."""
    return shipped_schema("certificate")


def write_unlearning(path: str | Path, results: UnlearningResults) -> str:
    """Write the results, atomically; gives the SHA-256 (hex) of the file.

    Raises:
        ValueError: a number that must be finite is not (a bug of a check).
        BadInput: the folder cannot be written to, or the disk is full.
    """
    return _write(path, results, FORMAT, private=results.holds_text)


def write_certificate(path: str | Path, certificate: Certificate) -> str:
    """As `write_unlearning`, for a certificate."""
    return _write(path, certificate, CERTIFICATE_FORMAT, private=False)


def read_unlearning(path: str | Path) -> UnlearningResults:
    """Read what `write_unlearning` wrote: equal results.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    return read_result(path, UnlearningResults, format_name=FORMAT, version=UNLEARNING_VERSION, again=AGAIN)


def read_certificate(path: str | Path) -> Certificate:
    """Read what `write_certificate` wrote; errors as in `read_unlearning`."""
    return read_result(path, Certificate, format_name=CERTIFICATE_FORMAT, version=UNLEARNING_VERSION, again=AGAIN)


def unlearning_digest(results: UnlearningResults) -> str:
    """SHA-256 (hex) of the file that `write_unlearning` makes of ``results``."""
    return _sha256(_text(results, FORMAT))


def _write(path: str | Path, value: UnlearningResults | Certificate, kind: str, *, private: bool) -> str:
    text = _text(value, kind)
    write_text(path, text, private=private)
    return _sha256(text)


def _text(value: UnlearningResults | Certificate, kind: str) -> str:
    return dumped({"format": kind, "schema_version": UNLEARNING_VERSION, **encode(value)})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()
