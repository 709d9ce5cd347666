# SPDX-License-Identifier: Apache-2.0
"""``unlearning.json`` and ``certificate.json``: what was found of an unlearning, as versioned JSON files with shipped
schemas. No text of the data is in them unless somebody asked for it.

An estimate is an object with the fields of `Estimate`; an end of an interval without a bound is ``null``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from reticent.core.atomic import write_text
from reticent.core.codec import decode, encode
from reticent.core.errors import BadInput
from reticent.core.unlearning import Certificate, UnlearningResults
from reticent.report.json_file import dumped, read_json

FORMAT, CERTIFICATE_FORMAT = "reticent.unlearning", "reticent.certificate"
UNLEARNING_VERSION = 1
"""``schema_version`` of both files. Increment when a field is added, removed or changes its meaning."""
AGAIN = "Run the verification again."

T = TypeVar("T", UnlearningResults, Certificate)


@cache
def unlearning_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``unlearning.json``, as shipped with the package."""
    return _shipped("unlearning.schema.json")


@cache
def certificate_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``certificate.json``, as shipped with the package."""
    return _shipped("certificate.schema.json")


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
    return _read(path, UnlearningResults, FORMAT)


def read_certificate(path: str | Path) -> Certificate:
    """Read what `write_certificate` wrote; errors as in `read_unlearning`."""
    return _read(path, Certificate, CERTIFICATE_FORMAT)


def unlearning_digest(results: UnlearningResults) -> str:
    """SHA-256 (hex) of the file that `write_unlearning` makes of ``results``."""
    return _sha256(_text(results, FORMAT))


def _shipped(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files("reticent.report").joinpath(name).read_text(encoding="utf-8"))
    return content


def _write(path: str | Path, value: UnlearningResults | Certificate, kind: str, *, private: bool) -> str:
    text = _text(value, kind)
    write_text(path, text, private=private)
    return _sha256(text)


def _text(value: UnlearningResults | Certificate, kind: str) -> str:
    return dumped({"format": kind, "schema_version": UNLEARNING_VERSION, **encode(value)})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()


def _read(path: str | Path, kind: type[T], name: str) -> T:
    content = read_json(Path(path), AGAIN)
    if not isinstance(content, Mapping) or content.get("format") != name:
        raise BadInput(str(path), f"is no {name.rpartition('.')[2]} that reticent wrote", AGAIN)
    version = content.get("schema_version")
    if version != UNLEARNING_VERSION:
        newer = isinstance(version, int) and version > UNLEARNING_VERSION
        raise BadInput(
            str(path),
            f"is of version {version!r}, this reticent reads {UNLEARNING_VERSION}",
            "Install a newer reticent." if newer else AGAIN,
        )
    try:
        fields = {key: value for key, value in content.items() if key not in ("format", "schema_version")}
        return decode(kind, fields)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(str(path), f"is broken ({error})", AGAIN) from error
