# SPDX-License-Identifier: Apache-2.0
"""The runs in a folder, one row each, finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.manifest import read_manifest
from reticent.report import summary
from reticent.report.comparison import read_comparison
from reticent.report.results import read_results

MARKS = ("results.json", "manifest.json", "tune.yaml", "audit.yaml", "comparison.json", "compare.yaml")
"""A folder that holds one of these is a run."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run.

    Args:
        id: name of its folder.
        created: ISO 8601, UTC; empty when nothing says so.
        status: the verdict's status, ``"comparison"``, ``"unfinished"`` (no results yet), or ``"unreadable"``.
        headline: the verdict's sentence, or what is wrong.
        best_auc: the largest AUC of a record-level attack; None when none was measured or none may be claimed.
    """

    id: str
    created: str
    status: str
    headline: str
    best_auc: Estimate | None


def runs(folder: str | Path) -> list[Run]:
    """The runs in ``folder``, newest first, those of unknown time last.

    Raises:
        BadInput: the folder is missing or cannot be listed.
    """
    folder = Path(folder)
    try:
        places = sorted(place for place in folder.iterdir() if any((place / mark).is_file() for mark in MARKS))
    except OSError as error:
        raise BadInput(
            str(folder), f"cannot be listed ({error.strerror})", "Give the folder that holds runs."
        ) from error
    return sorted((_run(place) for place in places), key=lambda run: run.created, reverse=True)


def _run(place: Path) -> Run:
    started = _manifest(place).get("created")
    created = started if isinstance(started, str) else ""
    if (place / "comparison.json").is_file():
        return _comparison(place)
    if not (place / "results.json").is_file():
        return Run(id=place.name, created=created, status="unfinished", headline="No results yet.", best_auc=None)
    try:
        results = read_results(place / "results.json")
    except BadInput as error:
        return Run(id=place.name, created=created, status="unreadable", headline=error.why, best_auc=None)
    finding = summary.best(results, "record", "auc") if results.verdict.status != "confounded" else None
    return Run(
        id=place.name,
        created=results.created or created,
        status=results.verdict.status,
        headline=results.verdict.headline,
        best_auc=finding.estimate if finding else None,
    )


def _comparison(place: Path) -> Run:
    try:
        found = read_comparison(place / "comparison.json")
    except BadInput as error:
        return Run(id=place.name, created="", status="unreadable", headline=error.why, best_auc=None)
    return Run(id=place.name, created=found.created, status="comparison", headline=found.headline, best_auc=None)


def _manifest(place: Path) -> dict[str, Any]:
    """The run's manifest; empty when it is missing or broken, since a list should show what can be shown."""
    try:
        manifest = read_manifest(place / "manifest.json")
    except (BadInput, OSError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
