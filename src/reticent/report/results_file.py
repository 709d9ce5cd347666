# SPDX-License-Identifier: Apache-2.0
"""``results.json``: a Results as a versioned JSON file that other tools can read by its shipped schema.

An interval end without a bound is ``null`` (``lo``: minus infinity, ``hi``: infinity), since JSON has no infinities;
so is ``power[].smallest`` when no effect of any size could have been seen. No other number may be infinite or NaN,
except in the free-form ``attacks[].params`` and ``provenance``, where they become the strings ``"inf"``, ``"-inf"``
and ``"nan"``.
"""

from __future__ import annotations

import hashlib
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
    ExposedUnit,
    Extraction,
    ExtractionCurve,
    ExtractionRow,
    GuaranteeAudit,
    GuaranteeBound,
    GuaranteeCheck,
    GuaranteeRate,
    LevelTest,
    Power,
    Results,
    Verdict,
)

RESULTS_VERSION = 6
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
    _check_lengths(results)
    write_text(path, _text(content), private=False)


def digest(results: Results) -> str:
    """SHA-256 (hex) of the ``results.json`` that `write_results` makes of ``results``, to tell a page's numbers by."""
    return hashlib.sha256(_text(to_json(results)).encode("utf-8", errors="backslashreplace")).hexdigest()


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
        results = from_json(content)
        _check_lengths(results)
    except ValueError as problem:
        raise BadInput(str(path), f"holds impossible numbers ({problem})", "Run the audit again.") from problem
    return results


def to_json(results: Results) -> dict[str, Any]:
    """``results`` as the plain dicts and lists that ``results.json`` holds."""
    confound = results.confound
    content = {
        "format": FORMAT,
        "schema_version": RESULTS_VERSION,
        "title": results.title,
        "created": results.created,
        "verdict": asdict(results.verdict),
        "findings": [_finding_to_json(finding) for finding in results.findings],
        "attacks": [asdict(run) | {"params": _plain(run.params)} for run in results.attacks],
        "curves": [asdict(curve) for curve in results.curves],
        "distributions": [asdict(distribution) for distribution in results.distributions],
        "exposure": [_tier_to_json(tier) for tier in results.exposure],
        "exposed": [asdict(unit) for unit in results.exposed],
        "confound": {
            "blind_auc": _estimate_to_json(confound.blind_auc) if confound.blind_auc else None,
            "near_duplicates": confound.near_duplicates,
            "near_duplicate_share": (
                _estimate_to_json(confound.near_duplicate_share) if confound.near_duplicate_share else None
            ),
            "separable": confound.separable,
            "note": confound.note,
            "unchecked": confound.unchecked,
        },
        "power": [
            asdict(power) | {"smallest": power.smallest if math.isfinite(power.smallest) else None}
            for power in results.power
        ],
        "not_tested": list(results.not_tested),
        "counts": dict(results.counts),
        "provenance": _plain(results.provenance),
        "promise": _promise_to_json(results.promise) if results.promise else None,
        "extraction": _extraction_to_json(results.extraction) if results.extraction else None,
        "tests": [asdict(test) for test in results.tests],
    }
    return _lists(content)


def from_json(content: Mapping[str, Any]) -> Results:
    """The Results that ``to_json`` made ``content`` of; ``content`` must keep to the schema."""
    confound = content["confound"]
    blind, share = confound["blind_auc"], confound["near_duplicate_share"]
    return Results(
        title=content["title"],
        created=content["created"],
        verdict=Verdict(**_tuples(content["verdict"])),
        findings=tuple(_finding_from_json(row) for row in content["findings"]),
        attacks=tuple(AttackRun(**_tuples(row) | {"params": row["params"]}) for row in content["attacks"]),
        curves=tuple(Curve(**_tuples(row)) for row in content["curves"]),
        distributions=tuple(Distribution(**_tuples(row)) for row in content["distributions"]),
        exposure=tuple(_tier_from_json(row) for row in content["exposure"]),
        exposed=tuple(ExposedUnit(**row) for row in content["exposed"]),
        confound=Confound(
            **dict(confound)
            | {
                "blind_auc": _estimate_from_json(blind) if blind else None,
                "near_duplicate_share": _estimate_from_json(share) if share else None,
            }
        ),
        power=tuple(
            Power(**row | {"smallest": math.inf if row["smallest"] is None else row["smallest"]})
            for row in content["power"]
        ),
        not_tested=tuple(content["not_tested"]),
        counts=content["counts"],
        provenance=content["provenance"],
        promise=_promise_from_json(content["promise"]) if content["promise"] else None,
        extraction=_extraction_from_json(content["extraction"]) if content["extraction"] else None,
        tests=tuple(LevelTest(**row) for row in content["tests"]),
    )


def _promise_to_json(promise: GuaranteeAudit) -> dict[str, Any]:
    return asdict(promise) | {
        "bounds": [asdict(bound) | {"estimate": _estimate_to_json(bound.estimate)} for bound in promise.bounds],
        "auc": _estimate_to_json(promise.auc) if promise.auc else None,
        "rates": [
            asdict(rate) | {"estimate": _estimate_to_json(rate.estimate) if rate.estimate else None}
            for rate in promise.rates
        ],
        "broken": promise.broken,
    }


def _promise_from_json(content: Mapping[str, Any]) -> GuaranteeAudit:
    row = {key: value for key, value in content.items() if key != "broken"}
    return GuaranteeAudit(
        **_tuples(row)
        | {
            "bounds": tuple(
                GuaranteeBound(**bound | {"estimate": _estimate_from_json(bound["estimate"])})
                for bound in row["bounds"]
            ),
            "auc": _estimate_from_json(row["auc"]) if row["auc"] else None,
            "checks": tuple(GuaranteeCheck(**check) for check in row["checks"]),
            "rates": tuple(
                GuaranteeRate(
                    **rate | {"estimate": _estimate_from_json(rate["estimate"]) if rate["estimate"] else None}
                )
                for rate in row.get("rates", ())
            ),
            "roc": tuple((fpr, tpr) for fpr, tpr in row.get("roc", ())),
        }
    )


_COMPARED = ("target", "base", "difference", "above_control")


def _extraction_to_json(extraction: Extraction) -> dict[str, Any]:
    rows = []
    for row in extraction.rows:
        estimates = {name: getattr(row, name) for name in _COMPARED}
        shown = {name: _estimate_to_json(one) if one else None for name, one in estimates.items()}
        rows.append(asdict(row) | shown | {"leaks": row.leaks})
    return asdict(extraction) | {"rows": rows, "curves": [asdict(curve) for curve in extraction.curves]}


def _extraction_from_json(content: Mapping[str, Any]) -> Extraction:
    rows = []
    for row in content["rows"]:
        estimates = {name: _estimate_from_json(row[name]) if row[name] else None for name in _COMPARED}
        rows.append(ExtractionRow(**_tuples({key: row[key] for key in row if key != "leaks"}) | estimates))
    curves = tuple(ExtractionCurve(**_tuples(curve)) for curve in content["curves"])
    return Extraction(rows=tuple(rows), curves=curves, scheme=content["scheme"], notes=tuple(content["notes"]))


def _check_lengths(results: Results) -> None:
    """What a JSON schema cannot say: which lists belong together."""
    for curve in results.curves:
        if len(curve.fpr) != len(curve.tpr):
            raise ValueError(f"the ROC curve of {curve.attack} has {len(curve.fpr)} fpr and {len(curve.tpr)} tpr")
    for rising in results.extraction.curves if results.extraction else ():
        if not len(rising.queries) == len(rising.target) or len(rising.base) not in (0, len(rising.queries)):
            raise ValueError(f"the curve of {rising.group} has shares that do not fit its numbers of samples")
    for histogram in results.distributions:
        if not len(histogram.edges) - 1 == len(histogram.member) == len(histogram.held_out):
            raise ValueError(f"the histogram of {histogram.attack} has counts that do not fit its edges")


def _tier_to_json(tier: CanaryExposure) -> dict[str, Any]:
    fitted = None if tier.fitted is None else _estimate_to_json(tier.fitted)
    return asdict(tier) | {"bits": _estimate_to_json(tier.bits), "fitted": fitted}


def _tier_from_json(row: Mapping[str, Any]) -> CanaryExposure:
    fitted = None if row["fitted"] is None else _estimate_from_json(row["fitted"])
    return CanaryExposure(**_tuples(row) | {"bits": _estimate_from_json(row["bits"]), "fitted": fitted})


def _estimate_to_json(estimate: Estimate) -> dict[str, Any]:
    return asdict(estimate) | {
        "lo": None if estimate.lo == -math.inf else estimate.lo,
        "hi": None if estimate.hi == math.inf else estimate.hi,
    }


def _estimate_from_json(row: Mapping[str, Any]) -> Estimate:
    lo, hi = row["lo"], row["hi"]
    return Estimate(
        value=row["value"],
        lo=-math.inf if lo is None else lo,
        hi=math.inf if hi is None else hi,
        n=row["n"],
        method=row["method"],
        confidence=row["confidence"],
        unit=row["unit"],
        higher_is_worse=row["higher_is_worse"],
        joint=row["joint"],
        alone=None if row["alone"] is None else (row["alone"][0], row["alone"][1]),
    )


def _finding_to_json(finding: Finding) -> dict[str, Any]:
    """A flat object, so that a table of findings is one call in any language."""
    return {
        "attack": finding.attack,
        "level": finding.level,
        "metric": finding.metric,
        **_estimate_to_json(finding.estimate),
        "severity": str(finding.severity),
        "access": finding.threat.access,
        "needs": finding.threat.needs,
        "statement": finding.statement,
        "advice": finding.advice,
        "notes": finding.notes,
        "p_value": finding.p_value,
    }


def _finding_from_json(row: Mapping[str, Any]) -> Finding:
    return Finding(
        attack=row["attack"],
        level=row["level"],
        metric=row["metric"],
        estimate=_estimate_from_json(row),
        severity=Severity(row["severity"]),
        threat=ThreatModel(access=row["access"], needs=tuple(row["needs"])),
        statement=row["statement"],
        advice=row["advice"],
        notes=tuple(row["notes"]),
        p_value=row["p_value"],
    )


def _read_json(path: Path) -> dict[str, Any]:
    """The file as JSON of this format and version."""
    foreign = "Give the results.json that `reticent audit` wrote."
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", foreign) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(str(path), f"is not valid JSON ({error})", foreign) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadInput(str(path), "is no results file of reticent", foreign)
    version = content.get("schema_version")
    if version != RESULTS_VERSION:
        raise BadInput(
            str(path),
            f"has schema version {version!r}, this reticent reads {RESULTS_VERSION}",
            "Read it with the reticent that wrote it, or run the audit again.",
        )
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _place(error: ValidationError) -> str:
    return "/".join(map(str, error.absolute_path)) or "the top level"


def _lists(value: Any) -> Any:
    """Tuples as lists, since JSON and the schema know only those."""
    if isinstance(value, Mapping):
        return {key: _lists(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_lists(entry) for entry in value]
    return value


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in row.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Free-form content as plain JSON: keys sorted, what JSON cannot hold as a string."""
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    item = getattr(value, "item", None)  # a numpy scalar
    return _plain(item()) if callable(item) and getattr(value, "shape", None) == () else str(value)


def _text(content: Mapping[str, Any]) -> str:
    return _dump(content) + "\n"


def _dump(value: Any, indent: str = "") -> str:
    """Indented JSON in which a list of plain values stays on one line: a curve is one line, not thousands."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = (f"{inner}{_dump(key)}: {_dump(entry, inner)}" for key, entry in value.items())
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return "[\n" + ",\n".join(inner + _dump(entry, inner) for entry in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
