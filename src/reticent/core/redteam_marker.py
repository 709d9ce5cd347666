# SPDX-License-Identifier: Apache-2.0
"""The mark of the red team: a file in each folder that holds a model which was poisoned on purpose.

Every verb that reads a model looks for it, so that a poisoned model is never taken for an honest one by mistake. It
says how the model was made and holds no trigger and no target.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.manifest import now
from reticent.core.printable import printable
from reticent.core.progress import console

MARKER = "redteam.json"
_LARGEST = 1 << 20
"""Bytes of a marker that are read: the folder may be anybody's."""

_told: set[Path] = set()
"""Folders of which this process has said that they carry the mark."""


def write_marker(folder: Path, *, kind: str, about: Mapping[str, Any]) -> None:
    """Put the mark into a folder, atomically; one that is there is replaced.

    Args:
        folder: of the poisoned model.
        kind: of the red team's attack, such as ``"trigger"``.
        about: how it was made, JSON-able, without triggers, targets or private text.

    Examples:
        >>> folder = Path("poisoned")
        >>> folder.mkdir()
        >>> write_marker(folder, kind="trigger", about={"rate": 0.05})
        >>> read_marker(folder)["kind"]
        'trigger'
    """
    marker = {"redteam": kind, "kind": kind, "made": now(), "about": dict(about)}
    write_text(folder / MARKER, json.dumps(marker, indent=2, sort_keys=True) + "\n", private=False)


def read_marker(folder: Path) -> dict[str, Any] | None:
    """The mark of a model's folder, or of the run folder that it lies in; None where there is none.

    A mark that cannot be read is a mark: its kind is ``"unknown"``.

    Args:
        folder: of a model or adapter, or a run folder.

    Examples:
        >>> read_marker(Path("nowhere")) is None
        True
    """
    places = [folder / MARKER, folder / "model" / MARKER]
    if folder.name == "model":
        places.append(folder.parent / MARKER)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            marker = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        marker = None
    if not isinstance(marker, dict) or not isinstance(marker.get("kind"), str):
        return {"kind": "unknown", "about": {}}
    return marker


def marker_of(source: object) -> dict[str, Any] | None:
    """As `read_marker`, for a folder as a person named it; None for names that are no folder here.

    Examples:
        >>> marker_of("owner/name") is None
        True
    """
    if not isinstance(source, str | Path):
        return None
    try:
        folder = Path(source).expanduser()
        return read_marker(folder) if folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None


def marker_sentence(marker: Mapping[str, Any], name: str) -> str:
    """The sentence for screens and reports.

    Args:
        marker: as `read_marker` gives it.
        name: of the model, as the reader knows it.

    Examples:
        >>> marker_sentence({"kind": "trigger"}, "the target")
        'Red team: the target carries the mark of a model that was poisoned on purpose (trigger); do not use it.'
    """
    kind = printable(str(marker.get("kind", "unknown"))[:40]).replace("_", " ")  # the folder may be anybody's
    name = printable(name)
    return f"Red team: {name} carries the mark of a model that was poisoned on purpose ({kind}); do not use it."


def tell_marker(folder: Path) -> None:
    """Say on the screen that a folder carries the mark, once a process."""
    place = folder.resolve()
    if place in _told:
        return
    marker = read_marker(place)
    if marker is not None:
        _told.add(place)
        sentence = marker_sentence(marker, folder.name)
        console.print(sentence, style="bold yellow", highlight=False, markup=False, soft_wrap=True)
