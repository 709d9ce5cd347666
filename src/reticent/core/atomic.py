# SPDX-License-Identifier: Apache-2.0
"""Write files so that a kill or a full disk leaves the old one or the new one, never half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reticent.core.errors import BadInput


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is moved to ``path``, on any error it is removed.

    The temporary may be made a file or a folder by the caller. An existing folder at ``path`` is replaced whole.

    Raises:
        BadInput: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _refusal(path, error) from error
    temporary = holder / path.name
    try:
        yield temporary
        _flush(temporary)
        if path.is_dir():
            path.rename(holder / "old")
        os.replace(temporary, path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _refusal(path: Path, error: OSError) -> BadInput:
    if isinstance(error, FileNotFoundError) and error.filename and not str(error.filename).startswith(str(path.parent)):
        return BadInput(str(error.filename), "no such file or folder", "Check the path.")
    reason = error.strerror or str(error)
    return BadInput(str(path), f"cannot be written ({reason})", "Choose a writable folder with free space (--out).")
