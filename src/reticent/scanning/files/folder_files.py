# SPDX-License-Identifier: Apache-2.0
"""Files of a folder, without those that a link would bring in from elsewhere."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.scanning.files.content_kind import content_kind, head_of

MOST_FILES = 100_000
MOST_VOCABULARY, MOST_JSON = 256 << 20, 64 << 20
"""Bytes of a vocabulary, and of any other JSON file, that are read: in memory small entries take twenty times as much.
The largest vocabularies have some 40 MiB, the largest lists of shards 10."""
VOCABULARIES = ("tokenizer.json", "vocab.json")
"""JSON files that are vocabularies."""
MOST_REPEATED = 20
"""Evidence of one file that is listed."""


@dataclass(frozen=True, kw_only=True)
class FolderFile:
    """One file.

    Args:
        path: inside the folder, with ``/``.
        place: where it lies.
        bytes: its size.
    """

    path: str
    place: Path
    bytes: int

    @property
    def kind(self) -> str:
        """Its format, by content."""
        try:
            return content_kind(head_of(self.place))
        except OSError as error:
            raise _unreadable(self.place, error) from error

    def view(self) -> memoryview:
        """Its content, mapped: only what is looked at is read."""
        if not self.bytes:
            return memoryview(b"")
        try:
            with self.place.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:  # a file that became empty cannot be mapped
            raise _unreadable(self.place, error) from error


def _unreadable(place: Path, error: Exception) -> BadInput:
    reason = getattr(error, "strerror", None) or error
    return BadInput(str(place), f"cannot be read ({reason})", "Make it readable, or take it out of the folder.")


def folder_files(folder: Path) -> list[FolderFile]:
    """All files below a folder, by path.

    Raises:
        BadInput: a link leads out of the folder, there is something that is no file, or there are too many.
    """
    files = sorted(_walk(folder), key=lambda entry: entry.path)
    if len(files) > MOST_FILES:
        raise BadInput(str(folder), f"holds more than {MOST_FILES:,} files", "Give the folder of one model.")
    return files


def _walk(folder: Path) -> Iterator[FolderFile]:
    homes = _homes(folder)
    for above, names, files in os.walk(folder, onerror=_refuse_closed):
        for name in (*names, *files):
            place = Path(above) / name
            path = place.relative_to(folder).as_posix()
            if place.is_symlink():
                _refuse_leaving(place, path, homes[:1] if name in names else homes)
            if name in names:
                continue
            if not place.is_file():
                raise BadInput(str(place), "is neither a file nor a folder", "Take it out of the folder.")
            yield FolderFile(path=path, place=place, bytes=place.stat().st_size)


def _refuse_closed(error: OSError) -> None:
    raise _unreadable(Path(error.filename), error) from error


def _homes(folder: Path) -> tuple[Path, ...]:
    """Folders that links may lead into: the folder itself, and the store of contents beside a snapshot of a hub."""
    resolved = folder.resolve()
    if resolved.parent.name == "snapshots" and (store := resolved.parent.parent / "blobs").is_dir():
        return resolved, store
    return (resolved,)


def _refuse_leaving(place: Path, path: str, homes: tuple[Path, ...]) -> None:
    try:
        target = place.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BadInput(str(place), "is a link that leads nowhere", "Take it out of the folder.") from error
    if not any(target.is_relative_to(home) for home in homes):
        raise BadInput(
            str(place),
            "is a link that leaves the folder, so that what is scanned need not be what is loaded",
            f"Replace {path} by the file itself.",
        )


def read_json(file: FolderFile) -> Any:
    """The content of a JSON file; None for one that cannot be read."""
    try:
        return parsed_json(file)
    except ValueError:
        return None


def parsed_json(file: FolderFile) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is none, is nested too deeply, or is larger than `MOST_JSON` (of a vocabulary `MOST_VOCABULARY`).
    """
    if file.bytes > (MOST_VOCABULARY if file.place.name in VOCABULARIES else MOST_JSON):
        raise ValueError(f"it has {file.bytes:,} bytes")
    try:
        return json.loads(file.place.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
