# SPDX-License-Identifier: Apache-2.0
"""Write files so that a kill or a full disk leaves the old one or the new one, never half of one.

A file never takes the place of a folder, and a folder is only replaced where this module made it and nobody put
anything into it since. What may be written where is decided in `reticent.core.outputs`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from reticent.core.errors import BadInput, Unusable

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

STALE = 3600
"""Seconds after which what a process left that is no more may be taken away where the system cannot lock folders: long,
as process numbers mislead in containers."""

LISTING = "reticent_files.json"
"""In a folder that `replacing_folder` made: what it is, and which files are in it."""

_OF_THE_PLACE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
"""Errors that say that a place cannot be written to, whatever is written."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{6}-\d+-\w+")
"""Names of temporary folders, whichever machine made them."""


@contextmanager
def replacing(path: str | Path, *, private: bool = True) -> Iterator[Path]:
    """Yield a temporary file's path; on success it is moved to ``path``, on any error it is removed.

    What an earlier process left here when it was killed is taken away: it may be large, and private.

    Args:
        path: where to. A link is followed.
        private: readable by its owner only; otherwise as the system makes files.

    Raises:
        BadInput: there is a folder.
        Unusable: it cannot be written to, or the disk is full.
    """
    path = _followed(Path(path))
    refuse_folder(path)
    with _holder(path) as holder:
        temporary = holder / path.name
        yield temporary
        _finish(path, temporary, private)


@contextmanager
def replacing_together(paths: Sequence[Path], *, public: Sequence[Path] = ()) -> Iterator[Mapping[Path, Path]]:
    """Yield a temporary for each of several files of one folder; once all are whole, they are moved in this order.

    Nothing is moved where anything fails before. A file whose temporary is not made stays as it is.

    Args:
        paths: where to; all in one folder.
        public: those of them that are not private, see `replacing`.

    Raises:
        BadInput, Unusable: as `replacing`.
    """
    for path in paths:
        refuse_folder(path)
    with _holder(paths[0]) as holder:
        temporary = {path: holder / path.name for path in paths}
        yield temporary
        written = [path for path in paths if temporary[path].exists()]
        for path in written:
            _close(temporary[path], path not in public)
        for path in written:
            temporary[path].replace(path)


@contextmanager
def replacing_folder(path: str | Path, *, kind: str, private: bool = True) -> Iterator[Path]:
    """Yield a temporary folder's path, to be made by the caller; on success it is moved to ``path``.

    A folder at ``path`` goes where this function made it and it holds nothing else (``LISTING`` says what).

    Raises:
        BadInput: what is at ``path`` is not this package's, or not of this kind.
        Unusable: as `replacing`.
    """
    path = _followed(Path(path))
    refuse_foreign_folder(path, kind)
    with _holder(path) as holder:
        temporary = holder / path.name
        yield temporary
        temporary.mkdir(exist_ok=True)
        listing = temporary / LISTING
        names = sorted({str(file.relative_to(temporary)) for file in temporary.rglob("*")} | {LISTING})
        listing.write_text(json.dumps({"kind": kind, "files": names}, indent=1) + "\n", encoding="utf-8")
        for file in (temporary, *temporary.rglob("*")):
            _flush(file)
            if private and file != temporary:
                file.chmod(0o700 if file.is_dir() else 0o600)
        refuse_foreign_folder(path, kind)
        if path.is_dir():
            path.rename(holder / "old")
        temporary.replace(path)
        path.chmod(0o700 if private else 0o755)


def write_text(path: str | Path, text: str, *, private: bool = True) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically. Half characters, as odd file names have them, are escaped."""
    with replacing(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def refuse_folder(path: Path) -> None:
    """Refuse to write a file where something is that is no file.

    Raises:
        BadInput: there is a folder, a device or the like.
        Unusable: the path cannot be looked at.
    """
    try:
        if path.is_dir():
            raise BadInput(
                str(path),
                "is a folder, and one file is to be written",
                "Name a file, such as a new one in that folder.",
            )
        if path.exists() and not path.is_file():
            raise BadInput(str(path), "is no ordinary file", "Name a file that is, or a new one.")
    except OSError as error:
        raise _unwritable(path, error) from error


def refuse_foreign_folder(path: Path, kind: str) -> None:
    """Refuse to replace what is at ``path`` unless it is a folder that `replacing_folder` made, or an empty one.

    Raises:
        BadInput: it is something else.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise BadInput(str(path), "is a file, and a folder is to be written", "Choose another place (--out).")
    present = {str(file.relative_to(path)) for file in path.rglob("*")}
    if not present:
        return
    try:
        listing = json.loads((path / LISTING).read_text(encoding="utf-8"))
        made_by, listed = listing["kind"], set(listing["files"])
    except (OSError, ValueError, KeyError, TypeError):
        made_by, listed = None, set()
    if made_by != kind:
        article = "an" if kind[0] in "aeiou" else "a"
        raise BadInput(
            str(path), f"is a folder that reticent did not make as {article} {kind}", "Choose another place (--out)."
        )
    others = sorted(present - listed)
    if others:
        raise BadInput(
            str(path),
            f"holds {others[0]!r}{f' and {len(others) - 1} more' if len(others) > 1 else ''}, which reticent did not "
            "write, and would be replaced whole",
            "Move that away, or choose another place (--out).",
        )


@contextmanager
def parents_of(path: Path, *, shown: Path | None = None) -> Iterator[None]:
    """Make the folders above ``path``; should they be empty in the end, those that were made go again.

    Raises:
        Unusable: they cannot be made.
    """
    try:
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(shown or path, error) from error
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


def short_name(path: Path) -> str:
    """The name of ``path``, or what stands for one that is so long that nothing can be put around it."""
    name = path.name
    if len(os.fsencode(name)) <= 100:
        return name
    return f"{name[:20]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"


def sweep(folder: Path) -> None:
    """Take away what killed processes of this machine left half-written in ``folder``."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            _take_away_abandoned(entry, _left_by(entry.name))


def is_temporary(name: str) -> bool:
    """True if a file of that name is what this module writes before it is moved."""
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def _holder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for its temporaries; errors that tell of the place are turned into refusals."""
    with parents_of(path):
        try:
            _sweep(path)
            holder = Path(tempfile.mkdtemp(prefix=f"{_ours(path)}{os.getpid()}-", dir=path.parent))
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            with _in_use(holder):
                yield holder
        except OSError as error:
            raise _refusal(path, error) from error
        finally:
            shutil.rmtree(holder, ignore_errors=True)


def _finish(path: Path, temporary: Path, private: bool) -> None:
    if temporary.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    _close(temporary, private)
    temporary.replace(path)


def _close(temporary: Path, private: bool) -> None:
    _flush(temporary)
    # A hard link is another file's too: its mode is left alone.
    if private and temporary.stat().st_nlink == 1:
        temporary.chmod(0o600)


def _followed(path: Path) -> Path:
    try:
        return path.resolve() if path.is_symlink() else path
    except OSError as error:
        raise _unwritable(path, error) from error
    except RuntimeError as error:  # a loop
        raise Unusable(str(path), "is a link that leads nowhere", "Choose another place (--out).") from error


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _ours(path: Path) -> str:
    """How names of temporary folders for ``path`` begin on this machine; short enough for any file system."""
    return f".{short_name(path)}.{_machine()}-"


def _left_by(name: str) -> int | None:
    """The process that made a temporary folder of that name, on this machine; None for other names."""
    start, number, rest = name.rpartition(f".{_machine()}-")
    process = rest.partition("-")[0]
    return int(process) if number and start.startswith(".") and process.isdigit() else None


def _sweep(path: Path) -> None:
    start = _ours(path)
    for entry in os.scandir(path.parent):
        process = entry.name.removeprefix(start).partition("-")[0]
        if entry.name.startswith(start) and process.isdigit():
            _take_away_abandoned(entry, int(process))


@contextmanager
def _in_use(holder: Path) -> Iterator[None]:
    """Lock a folder for as long as this process lives, where the system can."""
    descriptor = None
    with suppress(OSError):
        if fcntl is not None:
            descriptor = os.open(holder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take_away_abandoned(entry: os.DirEntry[str], process: int | None) -> None:
    """Delete a temporary folder unless the process that made it may still be at work."""
    if process is None or _runs(process):
        return
    with suppress(OSError):  # in use, or another process took it away
        if fcntl is None:
            unused = entry.stat(follow_symlinks=False).st_mtime < time.time() - STALE
        else:
            unused = _unlocked(entry)
        if unused:
            shutil.rmtree(entry.path)


def _unlocked(entry: os.DirEntry[str]) -> bool:
    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return os.fstat(descriptor).st_mtime < time.time() - STALE
    finally:
        os.close(descriptor)
    return True


def _runs(process: int) -> bool:
    """True if there is such a process; true where nobody can say."""
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
    return _unwritable(path, error) if error.errno in _OF_THE_PLACE else error


def _unwritable(path: Path, error: OSError) -> Unusable:
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:100]}…"
    return Unusable(
        shown, f"cannot be written ({error.strerror or error})", "Choose a writable folder with free space (--out)."
    )
