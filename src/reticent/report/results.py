# SPDX-License-Identifier: Apache-2.0
"""``results.json``: a Results as a versioned JSON file that other tools can read by its shipped schema.

An interval end without a bound is ``null`` (``lo``: minus infinity, ``hi``: infinity), since JSON has no infinities;
so is ``power[].smallest`` when no effect of any size could have been seen. No other number may be infinite or NaN,
except in the free-form ``attacks[].params`` and ``provenance``, where they become the strings ``"inf"``, ``"-inf"``
and ``"nan"``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.results import (
    AttackRun,
    CanaryExposure,
    Confound,
    Curve,
    Distribution,
    Exposed,
    Power,
    Results,
    Verdict,
)

RESULTS_VERSION = 1
"""``schema_version`` of the file. Raised whenever a field is added, removed or changes its meaning."""

FORMAT = "reticent.results"
"""``format`` of the file: tells it from any other JSON."""


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``results.json``, as shipped with the package."""
    return json.loads(files("reticent.report").joinpath("results.schema.json").read_text(encoding="utf-8"))


def write_results(path: str | Path, results: Results) -> None:
    """Write ``results`` to ``path``, atomically, after checking it against the schema.

    Raises:
        ValueError: a number that must be finite is not, or a field holds what the schema forbids (a bug of the audit).
        BadInput: the folder cannot be written to, or the disk is full.
    """
    content = to_json(results)
    error = best_match(Draft202012Validator(schema()).iter_errors(content))
    if error is not None:
        raise ValueError(f"these results break their own schema at {_place(error)}: {error.message[:300]}")
    write_text(path, _dump(content) + "\n")


def read_results(path: str | Path) -> Results:
    """Read what ``write_results`` wrote: an equal ``Results``.

    Raises:
        BadInput: the file is missing, is no JSON, is another tool's, is of another version, or breaks the schema.
    """
    content = _read_json(Path(path))
    error = best_match(Draft202012Validator(schema()).iter_errors(content))
    if error is not None:
        raise BadInput(
            str(path), f"breaks the results schema at {_place(error)}: {error.message[:200]}", "Run the audit again."
        )
    try:
        return from_json(content)
    except ValueError as problem:
        raise BadInput(str(path), f"holds an impossible number ({problem})", "Run the audit again.") from problem


def to_json(results: Results) -> dict[str, Any]:
    """``results`` as the plain dicts and lists that ``results.json`` holds."""
    confound = results.confound
    return {
        "format": FORMAT,
        "schema_version": RESULTS_VERSION,
        "title": results.title,
        "created": results.created,
        "verdict": asdict(results.verdict),
        "findings": [_finding_to_json(finding) for finding in results.findings],
        "attacks": [asdict(run) | {"params": _plain(run.params)} for run in results.attacks],
        "curves": [asdict(curve) for curve in results.curves],
        "distributions": [asdict(distribution) for distribution in results.distributions],
        "exposure": [asdict(tier) | {"bits": _estimate_to_json(tier.bits)} for tier in results.exposure],
        "exposed": [asdict(unit) for unit in results.exposed],
        "confound": {
            "blind_auc": _estimate_to_json(confound.blind_auc) if confound.blind_auc else None,
            "near_duplicates": confound.near_duplicates,
            "near_duplicate_share": (
                _estimate_to_json(confound.near_duplicate_share) if confound.near_duplicate_share else None
            ),
            "separable": confound.separable,
            "note": confound.note,
        },
        "power": [
            asdict(power) | {"smallest": power.smallest if math.isfinite(power.smallest) else None}
            for power in results.power
        ],
        "not_tested": list(results.not_tested),
        "counts": dict(results.counts),
        "provenance": _plain(results.provenance),
    } | _LISTS_FOR_TUPLES(results)
