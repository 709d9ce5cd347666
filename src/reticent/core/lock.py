# SPDX-License-Identifier: Apache-2.0
"""One process works in a folder at a time. The system holds the lock, so that it goes with the process, however it
ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from reticent.core.errors import BadInput

LOCK = "_training.lock"
"""In a folder that is locked from within; the underscore keeps it out of uploads."""


@contextmanager
def locked(path: Path, *, within: bool = False) -> Iterator[None]:
    """Hold the lock of the folder ``path``, which need not exist.

    The lock is an empty file, taken away at the end (one that a killed process left is free, and used again).

    Args:
        path: the folder.
        within: put the file into the folder (``LOCK``) rather than beside it, hidden (``.NAME.lock``).

    Raises:
        BadInput: another process, or another training in this one, holds it; or the place cannot be written.
    """
    folder = path.resolve()  # one folder has one lock, whatever leads to it
    file = folder / LOCK if within else folder.parent / f".{folder.name}.lock"
    descriptors: list[int] = []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(file), timeout=0, on_acquired=descriptors.append)
        lock.acquire()
        while not _lies_at(file, descriptors):
            # Who had it took it away between our opening and locking it: this file is nobody's lock any more.
            lock.release()
            lock.acquire()
    except Timeout as error:
        raise BadInput(
            str(path),
            "another process works in it, and both would go on from one checkpoint and change the same files",
            "Wait until it is done, or choose another folder (--out).",
        ) from error
    except OSError as error:
        raise BadInput(
            str(path), f"cannot be locked ({error.strerror})", "Choose a writable folder (--out)."
        ) from error
    try:
        yield
    finally:
        if descriptors:
            with suppress(OSError):  # open files cannot be taken away on every system
                file.unlink()
        lock.release()


def _lies_at(file: Path, descriptors: list[int]) -> bool:
    """Whether the file that was locked last is the one at this path. Where the system has no locks there is no
    descriptor, and ``filelock`` does with a file that it checks itself."""
    if not descriptors:
        return True
    try:
        return os.path.samestat(os.fstat(descriptors[-1]), file.stat())
    except FileNotFoundError:
        return False
