# SPDX-License-Identifier: Apache-2.0
"""Rules for output paths: the one place that decides whether something may be replaced.

Three rules. A place is named, not empty. An input is never an output, nor is anything within an input folder, however
it is spelt or linked. What is there already may be replaced only where this package wrote it, as the same kind of
thing. That a file never takes the place of a folder is seen to by `reticent.core.atomic`, for every file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reticent.core.atomic import refuse_folder
from reticent.core.errors import BadInput, Unusable

HEAD = 1 << 16
"""Bytes of a file in which its mark stands."""


@dataclass(frozen=True, kw_only=True)
class OutputKind:
    """A kind of file that is written to a place which a person names.

    Args:
        name: as messages call it, such as "report".
        is_ours: whether the file at a path was written by this package as this kind.
    """

    name: str
    is_ours: Callable[[Path], bool]


def marked(name: str, *marks: str) -> OutputKind:
    """A kind whose files begin with text that holds all of ``marks``."""

    def is_ours(path: Path) -> bool:
        with path.open("rb") as file:
            head = file.read(HEAD)
        return all(mark.encode() in head for mark in marks)

    return OutputKind(name=name, is_ours=is_ours)


REPORT = marked("report", '<meta name="generator" content="reticent report">')
JUNIT = marked("JUnit file", "<testsuites", '<testsuite name="reticent gate"')


def refuse_empty(flag: str, value: str | Path) -> None:
    """Refuse a place that is not named, which is what an unset variable of a shell gives.

    Raises:
        BadInput: it is empty, or holds what no path can.
    """
    text = str(value) if isinstance(value, Path) else value
    if not text.strip() or "\0" in text:
        raise BadInput(f"{flag}={text!r}", "names no place", "Name one; a variable of the shell may be unset.")


def refuse_input(out: str | Path, inputs: Mapping[str, str | Path | None]) -> None:
    """Refuse to write to what is read.

    Args:
        out: a file or folder to be written.
        inputs: what each is and where it lies; those that are None or lie nowhere here are passed over.

    Raises:
        BadInput: ``out`` is one of them, whatever it is called, or lies within one that is a folder.
        Unusable: a path cannot be looked at.
    """
    out = Path(out).expanduser()
    try:
        above = [out, *out.resolve().parents]
        for what, source in inputs.items():
            place = None if source is None or not str(source) else Path(source).expanduser()
            if place is None or not place.exists():
                continue
            inside = next((folder for folder in above if folder.exists() and folder.samefile(place)), None)
            if inside is not None and (inside == out or place.is_dir()):
                where = "is" if inside == out else "lies within"
                raise BadInput(
                    str(out),
                    f"{where} {what}, which is read and must stay as it is",
                    "Choose another place (--out).",
                )
    except (OSError, RuntimeError, ValueError) as error:
        raise _unusable(out, error) from error


def refuse_foreign(path: str | Path, kind: OutputKind) -> None:
    """Refuse to replace a file that this package did not write as this kind.

    Raises:
        BadInput: there is such a file, a folder, or a device.
        Unusable: it cannot be looked at.
    """
    path = Path(path)
    refuse_folder(path)
    try:
        ours = not path.exists() or path.stat().st_size == 0 or kind.is_ours(path)
    except OSError as error:
        raise _unusable(path, error) from error
    if not ours:
        raise BadInput(
            str(path),
            f"is there already, and is no {kind.name} that reticent wrote and left as it is",
            "Choose another name, or move that file away.",
        )


def file_to_write(
    path: str | Path, kind: OutputKind, *, flag: str = "out", inputs: Mapping[str, str | Path | None] | None = None
) -> Path:
    """``path``, where a file of this kind may be written.

    Args:
        path: as it was given.
        kind: what is to be written.
        flag: how it was given, for messages.
        inputs: see `refuse_input`.

    Raises:
        BadInput, Unusable: it may not.
    """
    refuse_empty(flag, path)
    refuse_input(path, inputs or {})
    refuse_foreign(path, kind)
    return Path(path)


def hash_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(card: Path, name: str) -> OutputKind:
    """A kind whose files have no room for a mark: the JSON file ``card`` beside them lists their hashes, under
    ``files`` those that it was written with, under ``before`` those that were there then."""

    def is_ours(path: Path) -> bool:
        try:
            card_fields = json.loads(card.read_text(encoding="utf-8"))
            digests = {card_fields.get(when, {}).get(path.name) for when in ("files", "before")}
        except (OSError, ValueError, AttributeError, RecursionError):
            return False
        return hash_of(path) in digests

    return OutputKind(name=name, is_ours=is_ours)


def _unusable(path: Path, error: Exception) -> Unusable:
    reason = getattr(error, "strerror", None) or error
    return Unusable(str(path)[:200], f"cannot be used ({reason})", "Choose another place (--out).")
