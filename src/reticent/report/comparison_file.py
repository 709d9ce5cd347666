# SPDX-License-Identifier: Apache-2.0
"""``comparison.json``: a Comparison as a versioned JSON file. No text of the data is in it.

An estimate is an object with the fields of `Estimate`; an end of an interval without a bound is ``null``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.comparison import (
    Association,
    Comparison,
    Fairness,
    MatchedUtility,
    Point,
    Setting,
    SettingPair,
    TrialRow,
)
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.together import ComposedEpsilon

FORMAT = "reticent.comparison"
COMPARISON_VERSION = 3
"""``schema_version`` of the file. Raised whenever a field is added, removed or changes its meaning."""

READABLE = (2, COMPARISON_VERSION)
"""A setting of version 2 has no ``schedule``: it is linear."""


def write_comparison(path: str | Path, comparison: Comparison) -> None:
    """Write ``comparison`` to ``path``, atomically.

    Raises:
        ValueError: a number that must be finite is not (a bug of the comparison).
        BadInput: the folder cannot be written to, or the disk is full.
    """
    content = {"format": FORMAT, "schema_version": COMPARISON_VERSION, **_bounded(asdict(comparison))}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", private=False)


def read_comparison(path: str | Path) -> Comparison:
    """Read what `write_comparison` wrote: an equal Comparison.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(str(path), "is missing", "Run reticent compare.") from error
    except ValueError as error:
        raise BadInput(str(path), f"is not valid JSON ({error})", "Run reticent compare again.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in READABLE or content.get("format") != FORMAT:
        raise BadInput(
            str(path),
            f"is no comparison of version {COMPARISON_VERSION}",
            "Run reticent compare again; what is trained stays trained.",
        )
    try:
        return _comparison(content)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Run reticent compare again.") from error


def _comparison(content: Mapping[str, Any]) -> Comparison:
    return Comparison(
        title=content["title"],
        created=content["created"],
        headline=content["headline"],
        sentences=tuple(content["sentences"]),
        base_loss=_estimate(content["base_loss"]),
        settings=tuple(map(_setting, content["settings"])),
        points=tuple(map(_point, content["points"])),
        pairs=tuple(
            SettingPair(**row | {"auc": _maybe(row["auc"]), "recall": _maybe(row["recall"])})
            for row in content["pairs"]
        ),
        cells=tuple(TrialRow(**row) for row in content["cells"]),
        associations=tuple(Association(**row | {"rho": _estimate(row["rho"])}) for row in content["associations"]),
        refused=tuple(content["refused"]),
        counts=dict(content["counts"]),
        provenance=dict(content["provenance"]),
        together=tuple(ComposedEpsilon(**row) for row in content["together"]),
    )


def _setting(row: Mapping[str, Any]) -> Setting:
    matched, fair = row["matched"], row["fairness"]
    return Setting(
        **dict(row)
        | {
            "learning_rates": tuple(row["learning_rates"]),
            "notes": tuple(row["notes"]),
            "matched": _matched(matched) if matched else None,
            "fairness": _fairness(fair) if fair else None,
        }
    )


def _matched(row: Mapping[str, Any]) -> MatchedUtility:
    first, second = row["between"]
    between = ((float(first[0]), int(first[1])), (float(second[0]), int(second[1])))
    return MatchedUtility(
        **dict(row) | {"auc": _estimate(row["auc"]), "recall": _maybe(row["recall"]), "between": between}
    )


def _fairness(row: Mapping[str, Any]) -> Fairness:
    found = {"kl": _maybe(row["kl"]), "records": _estimate(row["records"]), "users": _maybe(row["users"])}
    return Fairness(**dict(row) | found | {"losses": tuple(map(_estimate, row["losses"]))})


def _point(row: Mapping[str, Any]) -> Point:
    each = {name: tuple(row[name]) for name in ("each_loss", "each_auc", "each_recall")}
    sure = {name: _estimate(row[name]) for name in ("loss", "auc", "gap")}
    found = {name: _maybe(row[name]) for name in ("recall", "user_auc", "canary_user_auc")}
    exposure = {tier: _estimate(one) for tier, one in row["exposure"].items()}
    return Point(**dict(row) | each | sure | found | {"exposure": exposure})


def _estimate(row: Mapping[str, Any]) -> Estimate:
    ends = {"lo": -math.inf if row["lo"] is None else row["lo"], "hi": math.inf if row["hi"] is None else row["hi"]}
    return Estimate(**dict(row) | ends)


def _maybe(row: Mapping[str, Any] | None) -> Estimate | None:
    return _estimate(row) if row else None


def _bounded(value: Any) -> Any:
    """Ends without a bound as ``null``, tuples as lists."""
    if isinstance(value, Mapping):
        ends = {key: None for key in ("lo", "hi") if isinstance(value.get(key), float) and math.isinf(value[key])}
        return {str(key): _bounded(entry) for key, entry in value.items()} | ends
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_bounded(entry) for entry in value]
    return value
