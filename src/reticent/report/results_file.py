# SPDX-License-Identifier: Apache-2.0
"""``results.json``: a Results as a versioned JSON file that other tools can read by its shipped schema.

An interval end without a bound is ``null`` (``lo``: minus infinity, ``hi``: infinity), since JSON has no infinities;
so is ``power[].smallest`` when no effect of any size could have been seen. No other number may be infinite or NaN,
except in the free-form ``attacks[].params`` and ``provenance``, where they become the strings ``"inf"``, ``"-inf"``
and ``"nan"``. Files of older versions are read as well (`reticent.report.results_versions`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

from reticent.core.atomic import write_text
from reticent.core.codec import Mismatch, decode, encode
from reticent.core.errors import BadInput
from reticent.core.results import Results
from reticent.report.json_file import dumped, read_json
from reticent.report.results_versions import RESULTS_VERSION as RESULTS_VERSION
from reticent.report.results_versions import migrated

FORMAT = "reticent.results"
"""``format`` of the file: tells it from any other JSON."""


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``results.json``, as shipped with the package."""
    return json.loads(files("reticent.report").joinpath("results.schema.json").read_text(encoding="utf-8"))


@cache
def validator() -> Any:
    """Checks content against the schema, as the library does, and quickly where an array is long and plain."""
    return extend(Draft202012Validator, {"items": _items})(schema())  # type: ignore[no-untyped-call]


def _items(checker: Any, items: Any, instance: Any, within: Any) -> Iterator[ValidationError]:
    """The keyword ``items``: curves are long, and the library makes a validator for each number."""
    plain = isinstance(items, dict) and items.keys() <= _RANGE and items.get("type") == "number"
    if plain and instance and all(type(number) is float for number in instance):
        lowest, highest = items.get("minimum", -math.inf), items.get("maximum", math.inf)
        if lowest <= min(instance) and max(instance) <= highest:
            return
    yield from Draft202012Validator.VALIDATORS["items"](checker, items, instance, within)


_RANGE = {"type", "minimum", "maximum"}


def write_results(path: str | Path, results: Results) -> None:
    """Write ``results`` to ``path``, atomically, after checking it against the schema.

    Raises:
        ValueError: a number that must be finite is not, or a field holds what the schema forbids (a bug of the audit).
        BadInput: the folder cannot be written to, or the disk is full.
    """
    content = to_json(results)
    error = best_match(validator().iter_errors(content))
    if error is not None:
        raise ValueError(f"these results break their own schema at {_place(error)}: {error.message[:300]}")
    _check_lengths(results)
    write_text(path, dumped(content), private=False)


def digest(results: Results) -> str:
    """SHA-256 (hex) of the ``results.json`` that `write_results` makes of ``results``, to tell a page's numbers by."""
    return hashlib.sha256(dumped(to_json(results)).encode("utf-8", errors="backslashreplace")).hexdigest()


def read_results(path: str | Path) -> Results:
    """Read what ``write_results`` wrote, in this version or an older one.

    Raises:
        BadInput: the file is missing, is no JSON, is another tool's, is of a newer version, or breaks the schema.
    """
    content = migrated(_read(Path(path)))
    try:
        results = from_json(content)
        _check_lengths(results)
    except Mismatch as problem:
        raise BadInput(str(path), f"breaks the results schema at {problem}", "Run the audit again.") from problem
    except (ValueError, OverflowError) as problem:
        raise BadInput(str(path), f"holds impossible numbers ({problem})", "Run the audit again.") from problem
    return results


def to_json(results: Results) -> dict[str, Any]:
    """``results`` as the plain dicts and lists that ``results.json`` holds."""
    return {"format": FORMAT, "schema_version": RESULTS_VERSION, **encode(results)}


def from_json(content: Mapping[str, Any]) -> Results:
    """The Results that ``to_json`` made ``content`` of.

    Raises:
        ValueError: it is of another shape (`reticent.core.codec.Mismatch`), or holds impossible numbers.
    """
    return decode(Results, {name: content[name] for name in content if name not in ("format", "schema_version")})


def _check_lengths(results: Results) -> None:
    """Check what a JSON schema cannot say: lists that belong together are of one length."""
    for curve in results.curves:
        if len(curve.fpr) != len(curve.tpr):
            raise ValueError(f"the ROC curve of {curve.attack} has {len(curve.fpr)} fpr and {len(curve.tpr)} tpr")
    for rising in results.extraction.curves if results.extraction else ():
        if not len(rising.queries) == len(rising.target) or len(rising.base) not in (0, len(rising.queries)):
            raise ValueError(f"the curve of {rising.group} has shares that do not fit its numbers of samples")
    for histogram in results.distributions:
        if not len(histogram.edges) - 1 == len(histogram.member) == len(histogram.held_out):
            raise ValueError(f"the histogram of {histogram.attack} has counts that do not fit its edges")


def _read(path: Path) -> dict[str, Any]:
    """The file as JSON of this format and of a version that can be read."""
    foreign = "Give the results.json that `reticent audit` wrote."
    content = read_json(path, foreign)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadInput(str(path), "is no results file of reticent", foreign)
    version = content.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= RESULTS_VERSION:
        newer = isinstance(version, int) and version > RESULTS_VERSION
        raise BadInput(
            str(path),
            f"has schema version {version!r}, this reticent reads 1 to {RESULTS_VERSION}",
            "Install a newer reticent."
            if newer
            else "Read it with the reticent that wrote it, or run the audit again.",
        )
    return content


def _place(error: ValidationError) -> str:
    return "/".join(map(str, error.absolute_path)) or "the top level"
