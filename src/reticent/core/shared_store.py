# SPDX-License-Identifier: Apache-2.0
"""A store of finished files behind an address (``s3://…``, ``gs://…``, any that fsspec knows), beside the local cache.

``RETICENT_CACHE=s3://bucket/place`` keeps the cache where it is by default, asks the store for sealed files that are
not there, and copies to it what was made. Files are named by all that they are made from, and a seal goes with each, so
whoever reads the store takes a file that is whole or none. Files hold private text: the store has to be as private as
the texts are.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from reticent.core.atomic import replacing_together
from reticent.core.errors import BadInput, ReticentError, Unusable
from reticent.core.sealed import seal_of

VARIABLE = "RETICENT_CACHE"


def store_address() -> str:
    """The address of the store; empty where the cache is a folder of this machine.

    Examples:
        >>> store_address()
        ''
    """
    given = os.environ.get(VARIABLE, "")
    return given if "://" in given else ""


def shown(address: str) -> str:
    """An address for messages, without what may be a password or a signature in it.

    Examples:
        >>> shown("s3://bucket/place"), shown("sftp://ann:pass/word@host/place?sig=abc")
        ('s3://bucket/place', 'sftp://…@host/place?…')
    """
    kind, _, rest = address.partition("://")
    who, at, rest = rest.rpartition("@")
    rest, question, _ = rest.partition("?")
    return f"{kind}://{'…' if who else ''}{at}{rest}{'?…' if question else ''}"


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedStore:
    """A place of files.

    Args:
        address: for messages.
        files: of fsspec.
        place: the folder in it.
        local: the cache whose files it holds.
        proven: not empty once a file was written there and removed.
    """

    address: str
    files: Any
    place: str
    local: Path
    proven: list[bool] = field(default_factory=list)

    def fetch(self, path: Path) -> None:
        """Copy a file and its seal to this machine, where the store has both."""
        seal = seal_of(path)
        with suppress(FileNotFoundError), self._told(FileNotFoundError):
            digest = self.files.cat_file(self._name(seal))  # first: what is not there has none, and leaves no trace
            with replacing_together([path, seal]) as temporary:
                with self._told(FileNotFoundError):  # of the store, and not of the folder that is written to
                    self.files.get_file(self._name(path), str(temporary[path]))
                temporary[seal].write_bytes(digest)

    def offer(self, path: Path) -> None:
        """Copy a sealed file to the store, the seal last. One that another process drops meanwhile is in neither."""
        with self._told():
            self._prove()
            for part in (path, seal_of(path)):
                try:
                    self._put(part)
                except FileNotFoundError:
                    if part.exists():  # so it is the store that is not there
                        raise
                    self.drop(path)
                    return

    def drop(self, path: Path) -> None:
        """Remove a file, the seal first."""
        for part in (seal_of(path), path):
            with self._told(), suppress(FileNotFoundError):
                self.files.rm_file(self._name(part))

    def _name(self, path: Path) -> str:
        return f"{self.place}/{path.absolute().relative_to(self.local).as_posix()}"

    def _put(self, part: Path) -> None:
        """Copy a file; its folder is made where the store cannot take it, as there may be none."""
        name = self._name(part)
        try:
            self.files.put_file(str(part), name)
        except Exception as error:  # stores tell of a missing folder by errors of their own
            if not part.exists():
                raise
            with suppress(*(() if isinstance(error, FileNotFoundError) else (Exception,))):
                self._make_folder(name.rpartition("/")[0])
            self.files.put_file(str(part), name)

    def _make_folder(self, name: str) -> None:
        from fsspec.implementations.local import LocalFileSystem

        bucket = self.place.partition("/")[0]
        if bucket and not self.files.exists(bucket):  # a name that was mistyped: stores would make one of that name
            raise FileNotFoundError(f"there is no {bucket}")
        if isinstance(self.files, LocalFileSystem):  # for its owner only, unless somebody made it for others
            Path(self.place).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files.makedirs(name, exist_ok=True)

    def _prove(self) -> None:
        """Write a file and remove it, once: who may not remove would leave each shard behind, and end with an error."""
        if self.proven:
            return
        probe = self.local / f".probe-{secrets.token_hex(8)}"
        self.local.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.touch()
        try:
            self._put(probe)
        finally:
            probe.unlink()
        self.files.rm_file(self._name(probe))
        self.proven.append(True)

    @contextmanager
    def _told(self, *but: type[Exception]) -> Iterator[None]:
        """Whatever a store raises is an error of this package, but for those named."""
        try:
            yield
        except Exception as error:  # each kind of store has errors of its own
            if isinstance(error, (ReticentError, *but)):
                raise
            raise _refused(self.address, error, Unusable) from error


def shared_store(path: Path, local: Path) -> SharedStore | None:
    """The store that holds ``path``; None where none was asked for, or the file lies outside the cache.

    Args:
        path: of a file.
        local: the cache.

    Raises:
        BadInput: the address cannot be opened.
    """
    address = store_address()
    if not address or not path.absolute().is_relative_to(local.absolute()):
        return None
    return _opened(address, local.absolute())


@cache
def _opened(address: str, local: Path) -> SharedStore:
    try:
        from fsspec.core import url_to_fs

        files, place = url_to_fs(address)
    except Exception as error:  # each kind of store has errors of its own
        raise _refused(address, error, BadInput) from error
    return SharedStore(address=address, files=files, place=str(place).rstrip("/"), local=local)


def _refused(address: str, error: Exception, kind: type[BadInput]) -> BadInput:
    reason = (str(error).splitlines() or [""])[0]
    for secret in _secrets(address):
        reason = reason.replace(secret, "…")
    return kind(
        f"{VARIABLE}={shown(address)}",
        f"cannot be used ({type(error).__name__}: {reason[:200]})",
        "Install the package that fsspec needs for it, see to the rights to read, write and remove, or name a folder.",
    )


def _secrets(address: str) -> list[str]:
    """Parts of an address that `shown` leaves out, the longest first."""
    who, _, rest = address.partition("://")[2].rpartition("@")
    parts = [who, who.partition(":")[2], rest.partition("?")[2]]
    return sorted(filter(None, parts), key=len, reverse=True)
