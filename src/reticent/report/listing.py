# SPDX-License-Identifier: Apache-2.0
"""The runs in a folder, one row each, finished or not."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from reticent.core.composed_epsilon import rounded_up
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.manifest import read_manifest
from reticent.core.results import Results
from reticent.report import number_format as numbers
from reticent.report import summary
from reticent.report.comparison_file import read_comparison
from reticent.report.heading import model_name
from reticent.report.results_file import read_results

MARKS = ("results.json", "manifest.json", "tune.yaml", "audit.yaml", "comparison.json", "compare.yaml")
"""A folder that holds one of these is a run."""

HEADER = ("run", "made", "model", "files", "ε promised", "verdict", "best AUC")
"""Columns of `lines`. ``files`` is the size of the run's model folder."""
LEAST = 6
"""Letters that are left of a name, at least, where a line is too long."""
STATES = {"comparison": "comparison", "unfinished": "unfinished", "unreadable": "cannot be read"}


@dataclass(frozen=True, kw_only=True)
class ListedGuarantee:
    """The differential privacy that was promised: ε and δ for one unit."""

    epsilon: float
    delta: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run.

    Args:
        id: name of its folder.
        created: ISO 8601, UTC; empty when nothing says so.
        status: the verdict's status, ``"comparison"``, ``"unfinished"`` (no results yet), or ``"unreadable"``.
        headline: the verdict's sentence, or what is wrong.
        best_auc: the largest AUC of a record-level attack; None when none was measured or none may be claimed.
        best_attack: whose it is.
        model: the base and how it was tuned, or the audited model; empty when nothing says so.
        model_bytes: size of all files of the run's model folder; None where it has none.
        promise: what the training promised; None: nothing.
    """

    id: str
    created: str
    status: str
    headline: str
    best_auc: Estimate | None = None
    best_attack: str = ""
    model: str = ""
    model_bytes: int | None = None
    promise: ListedGuarantee | None = None

    @property
    def words(self) -> str:
        """The status as a person reads it."""
        return summary.STATUS_WORDS.get(self.status) or STATES.get(self.status, self.status)


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


def lines(listed: Sequence[Run], width: int | None = None) -> list[str]:
    """One line for each run below a header.

    Args:
        found: the runs.
        width: letters of a line; names of runs and models are cut to keep to it, nothing else is. None: as long as
            it takes.
    """
    rows = [HEADER, *(_cells(run) for run in listed)]
    columns = [column for column in range(len(HEADER)) if any(row[column] for row in rows[1:])]
    sizes = {column: max(len(row[column]) for row in rows) for column in columns}
    for column in (2, 0):  # the model's name, then the run's
        over = sum(sizes.values()) + 2 * (len(columns) - 1) - width if width is not None else 0
        if column in sizes and over > 0:
            sizes[column] = max(sizes[column] - over, LEAST)
    return ["  ".join(_cut(row[column], sizes[column]) for column in columns).rstrip() for row in rows]


def as_json(run: Run) -> dict[str, Any]:
    """The run as plain JSON: all fields, the verdict in words beside its status; no end of an interval is infinite."""
    content = asdict(run) | {"verdict": run.words}
    if run.best_auc is not None:
        content["best_auc"] |= {end: None for end in ("lo", "hi") if not math.isfinite(content["best_auc"][end])}
    return content


def _cells(run: Run) -> tuple[str, ...]:
    best = numbers.show(run.best_auc, "auc") if run.best_auc else None
    return (
        run.id,
        run.created[:10],
        run.model,
        "" if run.model_bytes is None else _size(run.model_bytes),
        ""
        if run.promise is None
        else f"{rounded_up(run.promise.epsilon)}/{run.promise.unit} δ={run.promise.delta:.2g}",
        run.words,
        "" if best is None else f"{best.value} {best.interval}",
    )


def _epsilon(spent: ListedGuarantee) -> str:
    return f"{rounded_up(spent.epsilon)}/{spent.unit} δ={spent.delta:.2g}"


def _cut(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else f"{text[: size - 1]}…"


def _size(count: int) -> str:
    """Bytes in the unit that leaves at most three digits before the point."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _run(place: Path) -> Run:
    manifest = _manifest(place)
    started = manifest.get("created")
    created = started if isinstance(started, str) else ""
    if (place / "comparison.json").is_file():
        return _comparison(place)
    about: dict[str, Any] = {
        "id": place.name,
        "model": _tuned(manifest),
        "model_bytes": _bytes(place / "model"),
        "promise": _promised(place / "model"),
    }
    if not (place / "results.json").is_file():
        return Run(**about, created=created, status="unfinished", headline="No results yet.")
    try:
        results = read_results(place / "results.json")
    except BadInput as error:
        return Run(**about, created=created, status="unreadable", headline=error.why)
    finding = summary.best(results, "record", "auc") if results.verdict.status != "confounded" else None
    about["model"] = about["model"] or model_name(results)
    about["promise"] = _of(results) or about["promise"]
    return Run(
        **about,
        created=results.created or created,
        status=results.verdict.status,
        headline=results.verdict.headline,
        best_auc=finding.estimate if finding else None,
        best_attack=finding.attack if finding else "",
    )


def _comparison(place: Path) -> Run:
    try:
        comparison = read_comparison(place / "comparison.json")
    except BadInput as error:
        return Run(id=place.name, created="", status="unreadable", headline=error.why)
    base = str(comparison.provenance.get("base") or "")
    return Run(
        id=place.name,
        created=comparison.created,
        status="comparison",
        headline=comparison.headline,
        model=PurePath(base).name,
    )


def _tuned(manifest: Mapping[str, Any]) -> str:
    """Base and method of a fine-tune; empty where the manifest knows of none."""
    tune = manifest.get("tune")
    base = tune.get("base") if isinstance(tune, Mapping) else None
    training = tune.get("training") if isinstance(tune, Mapping) else None
    method = training.get("method") if isinstance(training, Mapping) else None
    return " ".join(str(part) for part in (PurePath(str(base)).name, method) if part) if base else ""


def _bytes(model: Path) -> int | None:
    """Of all files below the folder; links are not followed."""
    if not model.is_dir():
        return None
    total = 0
    for folder, _, names in os.walk(model):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:  # went while this looked
                continue
    return total


def _promised(model: Path) -> ListedGuarantee | None:
    """The promise beside the model; None where there is none that can be shown."""
    if not (model / "privacy.json").is_file():
        return None
    # Here: the curve of a promise takes numpy and scipy to read, and most runs have none.
    from reticent.privacy.guarantee import PrivacyGuarantee

    try:
        guarantee = PrivacyGuarantee.from_json((model / "privacy.json").read_text(encoding="utf-8"))
    except (BadInput, OSError, ValueError):
        return None
    return ListedGuarantee(epsilon=guarantee.epsilon, delta=guarantee.delta, unit=guarantee.unit)


def _of(results: Results) -> ListedGuarantee | None:
    promise = results.promise
    return None if promise is None else ListedGuarantee(epsilon=promise.epsilon, delta=promise.delta, unit=promise.unit)


def _manifest(place: Path) -> dict[str, Any]:
    """The run's manifest; empty when it is missing or broken, since a list should show what can be shown."""
    try:
        manifest = read_manifest(place / "manifest.json")
    except (BadInput, OSError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
