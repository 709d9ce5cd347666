# SPDX-License-Identifier: Apache-2.0
"""What a file format is: a function from a source to rows, found by suffix or by the shape of the source."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from reticent.core.errors import BadInput
from reticent.core.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: where it stands (``file:line``) and its fields."""

    place: str
    fields: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be read: where it stands, why, and what to do. Never holds the text."""

    place: str
    why: str
    fix: str


Rows: TypeAlias = Callable[[str], Iterable[Row | BadRow]]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A file format.

    Args:
        name: of the format.
        suffixes: lower-case ends of file names.
        accepts: says whether a source without a known suffix is of this format.
        rows: gives the rows of a source; raises BadInput where the whole source cannot be read.
    """

    name: str
    suffixes: tuple[str, ...]
    accepts: Callable[[str], bool]
    rows: Rows


READERS: Registry[Reader] = Registry("file format", "reticent.data.readers")


def reader(
    name: str, *, suffixes: tuple[str, ...] = (), accepts: Callable[[str], bool] = lambda source: False
) -> Callable[[Rows], Rows]:
    """Register a function from a source to rows as a file format (see `Reader`)."""

    def register(rows: Rows) -> Rows:
        READERS.add(name, Reader(name=name, suffixes=suffixes, accepts=accepts, rows=rows))
        return rows

    return register


def rows_of(source: str) -> Iterator[Row | BadRow]:
    """All rows of ``source``, by the format that its name or shape tells.

    Raises:
        BadInput: no such file, an unknown format, or nothing in it.
    """
    empty = True
    for row in _reader_of(source).rows(source):
        empty = False
        yield row
    if empty:
        raise BadInput(source, "is empty", "Give a file with at least one record.")


def open_binary(source: str) -> BinaryIO:
    """Open a file, unpacked on the way where its name ends in ``.gz``."""
    if source.lower().endswith(".gz"):
        return gzip.open(source, "rb")  # type: ignore[return-value]  # a GzipFile reads like a file
    return Path(source).open("rb")


def _reader_of(source: str) -> Reader:
    path = Path(source)
    readers = list(READERS)
    if path.is_file() or not path.exists():
        for found in readers:
            if source.lower().endswith(found.suffixes or ("\0",)):
                if not path.exists():
                    raise BadInput(source, "there is no such file", "Check the path.")
                return found
    for found in readers:
        if found.accepts(source):
            return found
    suffixes = ", ".join(sorted(suffix for found in readers for suffix in found.suffixes))
    if not path.exists():
        raise BadInput(source, "there is no such file", f"Check the path. Known suffixes: {suffixes}.")
    raise BadInput(source, "is of no known format", f"Give a file that ends in one of: {suffixes}.")
