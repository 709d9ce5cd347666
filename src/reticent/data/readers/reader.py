# SPDX-License-Identifier: Apache-2.0
"""File formats: a format is a function from a source to rows, found by suffix or by the shape of the source."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from reticent.core.errors import BadInput
from reticent.core.registry import Registry


@dataclass(frozen=True, kw_only=True)
class InputRow:
    """One row: where it stands (``file:line``) and its fields."""

    place: str
    fields: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be read: where it stands, why, and what to do. Never holds the text."""

    place: str
    why: str
    fix: str


Rows: TypeAlias = Callable[[str], Iterable[InputRow | BadRow]]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A file format.

    Args:
        name: of the format.
        suffixes: lower-case ends of file names.
        accepts: says whether a source without a known suffix is of this format.
        rows: gives the rows of a source; raises BadInput where the whole source cannot be read.
        example: writes a source of two rows with the field ``text`` into an empty folder, and gives it:
            `reticent.testing.readers` reads it.
    """

    name: str
    suffixes: tuple[str, ...]
    accepts: Callable[[str], bool]
    rows: Rows
    example: Callable[[Path], str] | None = None


READERS: Registry[Reader] = Registry("file format", "reticent.data.readers")


def reader(
    name: str,
    *,
    suffixes: tuple[str, ...] = (),
    accepts: Callable[[str], bool] = lambda source: False,
    example: Callable[[Path], str] | None = None,
) -> Callable[[Rows], Rows]:
    """Register a function from a source to rows as a file format (see `Reader`)."""

    def register(rows: Rows) -> Rows:
        READERS.add(name, Reader(name=name, suffixes=suffixes, accepts=accepts, rows=rows, example=example))
        return rows

    return register


def example_file(name: str, content: str) -> Callable[[Path], str]:
    """An `example` that is a file of text."""

    def write(folder: Path) -> str:
        (folder / name).write_text(content, encoding="utf-8")
        return str(folder / name)

    return write


def rows_of(source: str) -> Iterator[InputRow | BadRow]:
    """All rows of ``source``, by the format that its name or shape tells.

    Raises:
        BadInput: no such file, an unknown format, or nothing in it.
    """
    empty = True
    try:
        for row in _reader_of(source).rows(source):
            empty = False
            yield row
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BadInput(source, f"cannot be unpacked ({error})", "Give the file again, it may be cut off.") from error
    except (UnicodeError, RecursionError) as error:
        raise BadInput(
            source, f"holds what cannot be read ({type(error).__name__})", "Check that it is of the format of its name."
        ) from error
    except OSError as error:
        raise BadInput(
            source if len(source) <= 200 else f"{source[:100]}…",
            f"cannot be read ({error.strerror or error})",
            "Check the path, its permissions and the disk.",
        ) from error
    if empty:
        raise BadInput(source, "is empty", "Give a file with at least one record.")


def open_binary(source: str) -> BinaryIO:
    """Open a file of text as UTF-8: unpacked on the way where its name ends in ``.gz``, and from UTF-16 or UTF-32 where
    it begins with their mark, as Excel and Windows write it.

    Raises:
        BadInput: it looks like UTF-16 and has no mark.
    """
    packed = source.lower().endswith(".gz")
    opened = gzip.open(source, "rb") if packed else Path(source).open("rb")  # noqa: SIM115 - the caller closes it
    file = cast(BinaryIO, opened)  # a GzipFile reads like a file
    try:
        head = file.read(4)
        if 0 in head and not head.startswith(tuple(_MARKS)):
            raise BadInput(
                source, "looks like UTF-16 or no text at all (it begins with NUL bytes)", "Save it as UTF-8."
            )
        file.seek(0)
    except BaseException:
        file.close()
        raise
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    return file if encoding is None else io.BufferedReader(_Utf8Reader(source, file, encoding))


_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Bytes that a file may begin with, and its encoding. The order matters: one begins with another."""


class _Utf8Reader(io.RawIOBase):
    """The bytes of a file of another encoding, as UTF-8."""

    def __init__(self, source: str, file: BinaryIO, encoding: str) -> None:
        self.source, self.file = source, file
        self.decoder, self.waiting = codecs.getincrementaldecoder(encoding)(), b""
        self.encoding, self.ended = encoding, False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self.waiting and not self.ended:
            read = self.file.read(1 << 16)
            self.ended = not read
            try:
                self.waiting = self.decoder.decode(read, final=self.ended).encode("utf-8")
            except UnicodeError as error:
                reason = f"is {self.encoding.upper()} that is damaged or cut off ({getattr(error, 'reason', error)})"
                raise BadInput(self.source, reason, "Save the file again, as UTF-8.") from error
        part, self.waiting = self.waiting[: len(buffer)], self.waiting[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


LONGEST_LINE = 1 << 26
"""Bytes. A longer line is no record that anybody trains on, and would fill the memory several times over."""


def lines_of(source: str, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of each line.

    Raises:
        BadInput: one is longer than ``LONGEST_LINE``.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise BadInput(
                f"{source}:{number}", f"is a line of more than {LONGEST_LINE >> 20} MB", "Cut it into records."
            )
        yield number, line


def _reader_of(source: str) -> Reader:
    path = Path(source)
    readers = list(READERS)
    if path.is_file() or not path.exists():
        for reader in readers:
            if source.lower().endswith(reader.suffixes or ("\0",)):
                if not path.exists():
                    raise BadInput(source, "there is no such file", "Check the path.")
                return reader
    for reader in readers:
        if reader.accepts(source):
            return reader
    suffixes = ", ".join(sorted(suffix for reader in readers for suffix in reader.suffixes))
    if not path.exists():
        raise BadInput(source, "there is no such file", f"Check the path. Known suffixes: {suffixes}.")
    raise BadInput(source, "is of no known format", f"Give a file that ends in one of: {suffixes}.")
