# SPDX-License-Identifier: Apache-2.0
"""Code inside of archives: programs, settings that lead to code, and layers that are programs, member by member."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.code_in_folder import PROGRAMS
from reticent.scanning.files.graph_files import onnx_notes, tensorflow_notes
from reticent.scanning.files.keras_layers import hdf5_note, hdf5_start, layer_notes
from reticent.scanning.files.object_targets import TARGETS, target_note, yaml_notes

_HOMES_OF_SKOPS = ("builtins", "collections", "functools", "numpy", "scipy", "sklearn", "xgboost", "lightgbm")
MOST_SETTINGS = 64 << 20
"""Bytes of settings in an archive that are read."""


def member_notes(name: str, view: memoryview) -> Iterator[tuple[str, bool]]:
    """Words on a member of an archive that is code or leads to some, and whether there is no other reading of it.

    >>> list(member_notes("handler.py", memoryview(b"pass")))
    [('is a program within an archive', False)]
    """
    kind, ending = kinds.content_kind(kinds.head_of_view(view)), PurePosixPath(name).suffix.lower()
    if ending in PROGRAMS:
        yield "is a program within an archive", False
    elif kind == kinds.PROGRAM:
        yield "is machine code within an archive", False
    elif ending in (".yaml", ".yml"):
        if len(view) > MOST_SETTINGS:
            yield f"has {len(view):,} bytes of settings, which are not read to the end", False
        yield from yaml_notes(bytes(view[:MOST_SETTINGS]))
    elif ending == ".json" or kind == kinds.JSON:
        yield from ((note, False) for note in _of_json(view))
    elif ending == ".onnx":
        yield from ((note, False) for note in onnx_notes(view))
    elif ending == ".pb":
        yield from ((note, False) for note in tensorflow_notes(view))
    elif hdf5_start(view) >= 0 and (note := hdf5_note(view)):
        yield note, False


def _of_json(view: memoryview) -> Iterator[str]:
    if len(view) > MOST_SETTINGS:
        yield f"has {len(view):,} bytes of settings, which are not read"
        return
    try:
        content = json.loads(bytes(view).decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return  # no settings that a loader could read
    yield from layer_notes(content)
    yield from (note for value in _targets(content) if (note := target_note(value)))
    yield from _of_skops(content)


def _of_skops(content: Any) -> Iterator[str]:
    """Classes and functions that a file of skops names, but for those of libraries of models."""
    homes: dict[str, None] = {}
    left = [content]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left.extend(part.values())
            home = part.get("__module__")
            if "__loader__" in part and isinstance(home, str) and home.partition(".")[0] not in _HOMES_OF_SKOPS:
                homes[home] = None
        elif isinstance(part, list):
            left.extend(part)
    yield from (f"names {home[:80]!r} as the home of an object, which a loader imports" for home in homes)


def _targets(content: Any) -> Iterator[Any]:
    left = [content]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            yield from (value for name, value in part.items() if name in TARGETS)
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)
