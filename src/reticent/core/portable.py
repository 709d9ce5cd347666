# SPDX-License-Identifier: Apache-2.0
"""Models named in files that travel: relative to the folder that names them, never by an absolute path.

A path tells who has a home where. It would be wrong on any other machine anyhow. Where no relative path leads from the
one to the other without naming a home (the two share no folder but the root), the name alone is written, and the user's
cache says where a base with those weights lies on this machine.
"""

from __future__ import annotations

import os
from pathlib import Path

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.user_cache import user_cache


def portable(source: str, folder: str | Path) -> str:
    """``source`` as a file in ``folder`` may name it: a folder that exists here by a relative path, else as it is.

    Args:
        source: a folder, a hub id, or a catalogue name.
        folder: where the file that names it lies.
    """
    place = Path(source).expanduser()
    if not source or not (place.is_absolute() or place.exists()):
        return source
    place, start = place.resolve(), Path(folder).resolve()
    shared = os.path.commonpath([place, start])
    return place.name if shared == os.sep else os.path.relpath(place, start)


def found(named: str, folder: str | Path, fingerprint: str = "") -> str:
    """The path that ``portable`` wrote, as it can be opened here; a name that leads to no folder stays as it is.

    Args:
        named: by a file in ``folder``.
        folder: where that file lies.
        fingerprint: of the model's weights, where known: by it the user's cache may know the place.
    """
    place = Path(folder) / named
    if named and place.is_dir():
        return str(place.resolve())
    if fingerprint:
        try:
            noted = Path(_note(fingerprint).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return named
        if noted.name == Path(named).name and noted.is_dir():
            return str(noted)
    return named


def stands_for(named: str, source: str, folder: str | Path) -> bool:
    """True if ``named``, by a file in ``folder``, is the model that ``source`` names now.

    Where it leads nowhere any more, because the folder was moved, the name of the model's folder decides.
    """
    place, given = Path(folder) / named, Path(source).expanduser()
    if place.is_dir():
        return given.is_dir() and place.samefile(given)
    return named == source or (Path(named).name == given.name and given.is_dir())


def remember(source: str, fingerprint: str) -> None:
    """Note in the user's cache where weights of this fingerprint lie, see ``found``. A cache that cannot be written
    costs only that."""
    place = Path(source).expanduser()
    if fingerprint and place.is_dir():
        try:
            write_text(_note(fingerprint), str(place.resolve()))
        except BadInput:
            return


def _note(fingerprint: str) -> Path:
    return user_cache() / "bases" / fingerprint
