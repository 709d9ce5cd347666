# SPDX-License-Identifier: Apache-2.0
"""Write files so that a kill or a full disk leaves the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reticent.core.errors import BadInput

STALE = 3600
"""Seconds after which what a process left that is no more may be taken away: long, should process numbers mislead."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is moved to ``path``, on any error it is removed.

    The temporary may be made a file or a folder by the caller. An existing folder at ``path`` is replaced whole. What
    an earlier process left here when it was killed is taken away: it may be large, and private.

    Raises:
        BadInput: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        holder = Path(tempfile.mkdtemp(prefix=f"{_ours(path)}{os.getpid()}-", dir=path.parent))
    except OSError as error:
        raise _refusal(path, error) from error
    temporary = holder / path.name
    try:
        yield temporary
        _flush(temporary)
        if path.is_dir():
            path.rename(holder / "old")
        temporary.replace(path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _ours(path: Path) -> str:
    """How names of temporary folders for ``path`` begin on this machine."""
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
    return f".{path.name}.{machine}-"


def _sweep(path: Path) -> None:
    start, long_ago = _ours(path), time.time() - STALE
    for entry in os.scandir(path.parent):
        process = entry.name.removeprefix(start).partition("-")[0]
        if entry.name.startswith(start) and process.isdigit() and not _runs(int(process)):
            with suppress(OSError):  # another process took it away
                if entry.stat(follow_symlinks=False).st_mtime < long_ago:
                    shutil.rmtree(entry.path)


def _runs(process: int) -> bool:
    """Whether there is such a process; true where nobody can say."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _refusal(path: Path, error: OSError) -> OSError | BadInput:
    """Turn an error of the place written to into one the user can act on; leave any other as it is."""
    if error.errno not in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENOTDIR,
        errno.EEXIST,
    ):
        return error
    return BadInput(
        str(path), f"cannot be written ({error.strerror})", "Choose a writable folder with free space (--out)."
    )
