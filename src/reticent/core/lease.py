# SPDX-License-Identifier: Apache-2.0
"""Leases among processes that share a file system and nothing else: files that lapse when their holder is gone.

A lock would do on one machine. Between machines it may stay with one that is dead, or not be seen at all, and their
clocks need not agree. So the holder counts up a number in the file, and whoever wants the lease watches, by the clock
of its own that never jumps, whether the number changes. Where both run under one kernel, the lock that the holder has
on the file says at once that it is gone.

Between machines two may hold one lease for a moment, after a holder that stood still for a minute comes back. What is
done under a lease has to bear that: files named by their content, moved into place whole, do.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from reticent.core.atomic import parents_of
from reticent.core.errors import Unusable

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

BEAT = 5.0
"""Seconds between two counts of a holder."""
LAPSE = 60.0
"""Seconds without a count, seen by one observer, after which a holder on another machine is taken for gone."""
LOOK = 0.2
"""Seconds between two tries of who waits for a lease."""
TRIES = 5
"""Times that a lease is tried which others take and leave in the meantime."""


def _kernel() -> str:
    """The running kernel of this machine; containers on it share its locks."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()}-{uuid.getnode():x}"


@dataclass(kw_only=True, eq=False)
class Lease:
    """A lease that this process holds, until it is released or the process ends.

    Args:
        path: its file.
        token: the holder, told apart from all others.
        words: what the file says besides the count.
        descriptor: the open file, which is locked where the system can.
    """

    path: Path
    token: str
    words: Mapping[str, object]
    descriptor: int
    _ended: threading.Event = field(default_factory=threading.Event)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._count(0)
        threading.Thread(target=self._beat, name=f"lease {self.path.name}", daemon=True).start()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """False once another took it over."""
        return _parsed(_content(self.path)).get("holder") == self.token

    def release(self) -> None:
        """Give it back; nothing where another has it by now."""
        with self._turn:  # the number of a closed file is the next one's, and a late count would be written into that
            if self._ended.is_set():
                return
            self._ended.set()
            with suppress(OSError):
                if self.held:
                    self.path.unlink()
            with suppress(OSError):
                os.close(self.descriptor)

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT):
            count += 1
            with self._turn, suppress(OSError):  # a full disk, a server that is away: the next count may arrive
                if not self._ended.is_set():
                    self._count(count)

    def _count(self, count: int) -> None:
        text = json.dumps({"holder": self.token, "count": f"{count:012d}", **self.words}) + "\n"
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        os.write(self.descriptor, text.encode())
        os.fsync(self.descriptor)  # so that other machines see it


class Leases:
    """Takes leases, and remembers when it saw those of others change.

    Args:
        clock: seconds that never jump, from any start.

    Examples:
        >>> ours, theirs = Leases(), Leases()
        >>> with ours.take(Path("shard.lease")):
        ...     theirs.take(Path("shard.lease")) is None
        True
        >>> Path("shard.lease").exists()
        False
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._seen: dict[Path, tuple[bytes, float]] = {}

    def take(self, path: Path, about: str = "") -> Lease | None:
        """The lease, or None while another holds it.

        Args:
            path: its file. Folders above it are made.
            about: said to those who ask while it is held (`about`).

        Raises:
            Unusable: the place cannot be written to.
        """
        try:
            for _ in range(TRIES):
                lease, is_held = self._attempt(path, about)
                if lease is not None or is_held:
                    return lease
        except OSError as error:
            raise Unusable(
                str(path.parent)[:200],
                f"cannot be written ({error.strerror})",
                "Choose a writable folder with free space.",
            ) from error
        return None

    def turn(self, path: Path) -> Lease:
        """The lease, once nobody else holds it.

        Args:
            path: its file. Folders above it are made.

        Raises:
            Unusable: the place cannot be written to.
        """
        while (lease := self.take(path)) is None:
            time.sleep(LOOK)
        return lease

    def _attempt(self, path: Path, about: str) -> tuple[Lease | None, bool]:
        """The lease where it was free, and whether another holds it; neither where it changed under our hands."""
        with suppress(FileExistsError, FileNotFoundError), parents_of(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self._seen.pop(path, None)
            return _hold(path, descriptor, about, locked=_lock(descriptor)), False
        content = _content(path)
        if content is None:
            return None, False
        words, seconds = _parsed(content), self._stood_still(path, content)
        if words.get("locked") and words.get("kernel") == _kernel():
            return _adopted(path, about)
        if seconds < LAPSE:
            return None, True
        _bury(path, content)
        return None, False

    def _stood_still(self, path: Path, content: bytes) -> float:
        """Seconds for which this process saw the file as it is."""
        before, since = self._seen.get(path, (None, 0.0))
        if before != content:
            since = self.clock()
            self._seen[path] = (content, since)
        return self.clock() - since


def about(path: Path) -> str:
    """The words that the holder of the lease at ``path`` left with it; empty where nobody holds it."""
    return str(_parsed(_content(path)).get("about", ""))


def _hold(path: Path, descriptor: int, about: str, *, locked: bool) -> Lease:
    words = {"kernel": _kernel(), "locked": locked, "about": about}
    return Lease(path=path, token=secrets.token_hex(8), words=words, descriptor=descriptor)


def _adopted(path: Path, about: str) -> tuple[Lease | None, bool]:
    """The lease of a holder under this kernel, if it is gone; else that it is held."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None, False
    if not _lock(descriptor):
        os.close(descriptor)
        return None, True
    try:
        ours = os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        ours = False
    if not ours:  # released between our opening and our locking it
        os.close(descriptor)
        return None, False
    os.ftruncate(descriptor, 0)
    return _hold(path, descriptor, about, locked=True), False


def _bury(path: Path, content: bytes) -> None:
    """Take away a lease that lapsed. Should another have taken it over just now, it is put back."""
    grave = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        path.rename(grave)
        if _content(grave) != content:
            with suppress(OSError):
                path.hardlink_to(grave)
        grave.unlink()


def _lock(descriptor: int) -> bool:
    """True if the file is locked by this process now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):  # held, or a system or file system without locks
        return False
    return True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _parsed(content: bytes | None) -> dict[str, object]:
    with suppress(ValueError):
        words = json.loads(content or b"")
        if isinstance(words, dict):
            return words
    return {}
