# SPDX-License-Identifier: Apache-2.0
"""One process works in a folder at a time. The system holds the lock, so that it goes with the process, however it
ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from reticent.core.atomic import parents_of, short_name
from reticent.core.errors import Unusable

LOCK = "_training.lock"
"""In a folder that is locked from within; the underscore keeps it out of uploads."""


@contextmanager
def locked(path: Path, *, within: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the folder or file ``path``, which need not exist.

    The lock is an empty file, taken away at the end (one that a killed process left is free, and used again).

    Args:
        path: the folder or file.
        within: put the lock into the folder (``LOCK``) rather than beside it, hidden (``.NAME.lock``).
        wait: take turns: go on once whoever holds it is done, instead of refusing.

    Raises:
        Unusable: another process, or another training in this one, holds it; or the place cannot be written.
    """
    try:
        folder = path.resolve()  # one folder has one lock, whatever leads to it
    except OSError as error:
        raise Unusable(
            str(path)[:200], f"cannot be used ({error.strerror})", "Choose another place (--out)."
        ) from error
    except RuntimeError as error:  # a loop of links
        raise Unusable(str(path), "is a link that leads nowhere", "Choose another place (--out).") from error
    file = folder / LOCK if within else folder.parent / f".{short_name(folder)}.lock"
    with parents_of(file, shown=path):
        yield from _held(path, file, wait=wait)


def _held(path: Path, file: Path, *, wait: bool) -> Iterator[None]:
    descriptors: list[int] = []
    try:
        lock = FileLock(str(file), timeout=-1 if wait else 0, on_acquired=descriptors.append)
        _acquire(lock, file)
        while not _lies_at(file, descriptors):
            # Who had it took it away between our opening and locking it: this file is nobody's lock any more.
            lock.release()
            _acquire(lock, file)
    except Timeout as error:
        raise Unusable(
            str(path),
            "another process works in it, and both would go on from one checkpoint and change the same files",
            "Wait until it is done, or choose another folder (--out).",
        ) from error
    except OSError as error:
        raise Unusable(
            str(path)[:200], f"cannot be locked ({error.strerror})", "Choose a writable folder (--out)."
        ) from error
    try:
        yield
    finally:
        if descriptors:
            with suppress(OSError):  # open files cannot be taken away on every system
                file.unlink()
        lock.release()


def _acquire(lock: FileLock, file: Path, tries: int = 100) -> None:
    """Take the lock. Its folder may go while we open the file: another process made it, and found nothing to keep."""
    for _ in range(tries):
        with suppress(FileNotFoundError):
            lock.acquire()
            return
        file.parent.mkdir(parents=True, exist_ok=True)
    lock.acquire()


def _lies_at(file: Path, descriptors: list[int]) -> bool:
    """True if the file that was locked last is the one at this path. Where the system has no locks there is no
    descriptor, and ``filelock`` does with a file that it checks itself."""
    if not descriptors:
        return True
    try:
        return os.path.samestat(os.fstat(descriptors[-1]), file.stat())
    except FileNotFoundError:
        return False
