# SPDX-License-Identifier: Apache-2.0
"""Files of a cache with their hash beside them, so that a damaged one is made again instead of opened."""

from __future__ import annotations

from pathlib import Path

from reticent.core.atomic import write_text
from reticent.core.outputs import hash_of

SUFFIX = ".sha256"


def seal(path: Path) -> None:
    """Write beside the file what ``intact`` compares it with."""
    write_text(seal_of(path), hash_of(path))


def intact(path: Path) -> bool:
    """True if the file is there and is what was sealed."""
    try:
        return seal_of(path).read_text(encoding="utf-8") == hash_of(path)
    except (OSError, UnicodeDecodeError):
        return False


def drop(path: Path) -> None:
    """Remove a sealed file."""
    seal_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def seal_of(path: Path) -> Path:
    """Where the hash of a file lies."""
    return path.with_suffix(SUFFIX)
