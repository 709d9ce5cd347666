# SPDX-License-Identifier: Apache-2.0
"""A store of finished files behind an address (``s3://…``, ``gs://…``, any that fsspec knows), beside the local cache.

``RETICENT_CACHE=s3://bucket/place`` keeps the cache where it is by default, asks the store for sealed files that are
not there, and copies to it what was made. Files are named by all that they are made from, and a seal goes with each, so
whoever reads the store takes a file that is whole or none. Files hold private text: the store has to be as private as
the texts are.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedStore:
    """A place of files.

    Args:
        address: for messages.
        files: of fsspec.
        place: the folder in it.
        local: the cache whose files it holds.
    """

    address: str
    files: Any
    place: str
    local: Path

    def fetch(self, path: Path) -> None:
        """Copy a file and its seal to this machine, where the store has both."""
        seal = seal_of(path)
        with suppress(FileNotFoundError), self._told(), replacing_together([path, seal]) as temporary:
            for part in (seal, path):  # what is not there has no seal
                self.files.get_file(self._name(part), str(temporary[part]))

    def offer(self, path: Path) -> None:
        """Copy a sealed file to the store, the seal last."""
        with self._told():
            self.files.makedirs(self._name(path).rpartition("/")[0], exist_ok=True)
            for part in (path, seal_of(path)):
                self.files.put_file(str(part), self._name(part))

    def drop(self, path: Path) -> None:
        """Remove a file, the seal first."""
        for part in (seal_of(path), path):
            with self._told(), suppress(FileNotFoundError):
                self.files.rm_file(self._name(part))

    def _name(self, path: Path) -> str:
        return f"{self.place}/{path.absolute().relative_to(self.local).as_posix()}"

    def _told(self) -> _StoreErrors:
        return _StoreErrors(self.address)


class _StoreErrors:
    """Whatever a store raises, but that a file is not there, is an error of this package."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, FileNotFoundError | ReticentError):
            raise _refused(self._address, error, Unusable) from error


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
    message = (str(error).splitlines() or [""])[0][:200]
    return kind(
        f"{VARIABLE}={re.sub('//[^/@]*@', '//…@', address)}",
        f"cannot be used ({type(error).__name__}: {message})",
        "Install the package that fsspec needs for it, and see to the rights; or name a folder.",
    )
