# SPDX-License-Identifier: Apache-2.0
"""Scanner of pickles: wherever content is a pickle, by itself or inside archives, all that it names must be on a short
list of harmless names."""

from __future__ import annotations

import ast
import bz2
import io
import lzma
import math
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.code_in_members import member_notes
from reticent.scanning.files.file_by_file import file_by_file
from reticent.scanning.files.folder_files import MOST_REPEATED, FolderFile, folder_files
from reticent.scanning.files.pickle_streams import CONVERT, StreamReading, read_stream, unmarked
from reticent.scanning.files.zip_members import (
    END,
    BadZip,
    Member,
    TooLarge,
    ZipListing,
    list_members,
    unpack,
)
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect

MOST_UNPACKED = 1 << 30
"""Bytes that are unpacked of one file, all archives in it together."""
MOST_DEPTH = 5
"""Archives in archives."""
BOMB_BYTES, BOMB_RATIO = 64 << 20, 100
"""A member that is larger unpacked, and shrinks by more, is there to fill a disk."""
_ENDS = (1 << 16) + 22
_PIECE, _LARGEST_PIECE = 1 << 12, 1 << 22
"""Bytes of a compressed stream that are read at a time: at first, and at most."""
_ZFILE_HEAD = 21
"""Bytes of the mark and the length that the oldest joblib wrote."""
_OLD_TORCH = ("pickle", "tensors", "storages")
"""Members of the tar archives of torch before 0.1.11, which are pickles with numbers between them."""
_PYTHON_2_LONG = re.compile(r"(\d)L\b")
_RAW = re.compile(r"(.*/)?(data|tensors)/\d+")
_PICKLE_NAMES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib")
_NO_NUMBERS = (kinds.NUMPY, kinds.ZIP, kinds.TAR, kinds.XZ, kinds.SEVEN_ZIP, kinds.RAR)
"""Formats with a mark so long that no numbers of a tensor begin with it."""
UNPACK = "Unpack it yourself where nothing can be lost, and scan what comes out."


@dataclass(kw_only=True)
class _Budget:
    """Bytes that may still be unpacked."""

    left: int
    given: str

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise bomb(self.given, f"more than {MOST_UNPACKED >> 20:,} MiB of archives in archives")


def bomb(given: str, why: str) -> BadInput:
    """The refusal of content that is far larger unpacked."""
    return BadInput(given, f"unpacks to {why}", "Do not unpack it. Ask its publisher what it is for.")


@scanner(
    name="pickles",
    title="Pickles that run code",
    kind="files",
    null="rule",
    blind_to="Faults of the libraries that read a file of harmless names, and what the weights themselves do.",
    order=10,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence for every name in a pickle that is not known as harmless; nothing is unpickled."""
    return file_by_file(folder_files(suspect.folder), _worst)


def _worst(file: FolderFile) -> list[ScanEvidence]:
    """The worst of one file: no crowd of oddities may hide a call."""
    return sorted(scan_file(file), key=lambda row: (not row.certain, -row.score))[:MOST_REPEATED]


def scan_file(file: FolderFile) -> Iterator[ScanEvidence]:
    """Evidence of one file.

    Raises:
        BadInput: it unpacks to more than `MOST_UNPACKED`.
    """
    if not file.bytes:
        return
    view, budget = file.view(), _Budget(left=MOST_UNPACKED, given=str(file.place))
    named = file.path.lower().endswith(_PICKLE_NAMES)
    yield from _look_into(view, file.path, budget, 0, must=named and file.kind != kinds.SAFETENSORS)
    if file.kind not in (kinds.ZIP, kinds.TAR) and END in bytes(view[-_ENDS:]):
        yield from _appended(view, file.path, budget)


def refuse_bombs(file: FolderFile) -> None:
    """Refuse an archive of which a member is far larger unpacked.

    Raises:
        BadInput: there is one.
    """
    if file.bytes and file.kind == kinds.ZIP:
        try:
            listing = list_members(file.view())
        except BadZip:
            return  # for the scanner to say
        for member in listing.members:
            if member.size > BOMB_BYTES and member.size > BOMB_RATIO * max(member.packed, 1):
                raise bomb(str(file.place), f"{member.size:,} bytes from {member.packed:,} ({member.name})")


def _appended(view: memoryview, where: str, budget: _Budget) -> Iterator[ScanEvidence]:
    """A zip archive behind other content: some loaders find it from the end."""
    try:
        listing = list_members(view)
    except BadZip:
        return
    if listing.members:
        note = f"a zip archive of {len(listing.members)} members is appended"
        yield ScanEvidence(score=1.0, where=where, note=note, remedy=CONVERT)
        yield from _members(listing, where, budget, 0)


def _look_into(view: memoryview, where: str, budget: _Budget, depth: int, *, must: bool) -> Iterator[ScanEvidence]:
    """Evidence of content, whatever it is; ``must``: its name says that it is a pickle where nothing else does."""
    kind = kinds.content_kind(kinds.head_of_view(view))
    if kind in kinds.SEALED:
        note = f"a {kind} archive, which nothing here can look into"
        yield ScanEvidence(score=1.0, where=where, note=note, remedy=UNPACK)
    elif depth > MOST_DEPTH:
        yield ScanEvidence(score=1.0, where=where, note=f"archives in archives, {depth} deep", remedy=UNPACK)
    elif kind in _OPENED:
        yield from _OPENED[kind](view, where, budget, depth)
        if kind != kinds.ZIP:  # "P" asks a loader for a thing by a line of text, and none of them goes on from there
            yield from _with_nested(unmarked(view, where), where, budget, depth)  # a name in a tar may be a pickle too
    elif kind == kinds.PICKLE:
        yield from _with_nested(read_stream(view, where), where, budget, depth)
    elif faint := kinds.faint_kind(kinds.head_of_view(view)):
        yield from _faint(view, faint, where, budget, depth)
    else:
        unsure = unmarked(view, where)
        again = must and not unsure.evidence and kind in (kinds.BINARY, kinds.TEXT)
        yield from _with_nested(read_stream(view, where) if again else unsure, where, budget, depth)


def _with_nested(reading: StreamReading, where: str, budget: _Budget, depth: int) -> Iterator[ScanEvidence]:
    yield from reading.evidence
    for number, content in enumerate(reading.nested):
        yield from _look_into(content, f"{where} › pickle {number + 1} in it", budget, depth + 1, must=True)


def _zip(view: memoryview, where: str, budget: _Budget, depth: int) -> Iterator[ScanEvidence]:
    try:
        listing = list_members(view)
    except BadZip as error:
        note = f"a zip archive that cannot be read: {error}; some loaders read such archives"
        yield ScanEvidence(score=1.0, where=where, note=note, remedy=CONVERT)
        return
    for oddity in listing.oddities[:MOST_REPEATED]:
        yield ScanEvidence(score=1.0, where=where, note=oddity, remedy=CONVERT)
    yield from _members(listing, where, budget, depth)


def _members(listing: ZipListing, where: str, budget: _Budget, depth: int) -> Iterator[ScanEvidence]:
    left = 2 * len(listing.view) + _ENDS
    for member in listing.members:
        left -= member.packed
        if left < 0:
            note = "its members are larger than the archive, since they overlap; the rest of them was not looked into"
            yield ScanEvidence(score=1.0, where=where, note=note, remedy=CONVERT)
            return
        place = f"{where} › {member.name}"
        parts = member.name.split("/")
        if parts[-1] == "constants.pkl" or (parts[-1].endswith(".py") and "code" in parts[:-1]):
            note = "a TorchScript archive: it holds a program that runs when it is loaded or called"
            yield ScanEvidence(score=1.0, where=place, note=note, remedy=CONVERT)
        try:
            yield from _member(listing.view, member, place, budget, depth)
        except TooLarge as error:
            yield ScanEvidence(score=1.0, where=place, note=f"unpacks to {error}, not to what it says", remedy=CONVERT)
        except BadZip as error:
            yield ScanEvidence(score=1.0, where=place, note=f"cannot be unpacked: {error}", remedy=CONVERT)


def _member(view: memoryview, member: Member, where: str, budget: _Budget, depth: int) -> Iterator[ScanEvidence]:
    if member.method == 0 and _RAW.fullmatch(member.name):
        content = view[member.data : member.data + member.packed]
        if kinds.content_kind(kinds.head_of_view(content)) not in _NO_NUMBERS:
            yield from _with_nested(unmarked(content, where, raw=True), where, budget, depth)
            return
    if member.method:
        budget.spend(member.size)
    content = unpack(view, member, min(member.size, MOST_UNPACKED))
    yield from _code_in(member.name, content, where)
    yield from _look_into(content, where, budget, depth + 1, must=member.name.lower().endswith(_PICKLE_NAMES))


def _code_in(name: str, content: memoryview, where: str) -> Iterator[ScanEvidence]:
    for note, certain in member_notes(name, content):
        yield ScanEvidence(score=1.0, where=where, note=note, certain=certain, remedy=UNPACK)


class _ViewFile(io.RawIOBase):
    """A view as a file that can be sought in."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.at = view, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, len(self.view))[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        part = self.view[self.at : self.at + len(buffer)]
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)


def _tar(view: memoryview, where: str, budget: _Budget, depth: int) -> Iterator[ScanEvidence]:
    try:
        with tarfile.open(fileobj=io.BufferedReader(_ViewFile(view)), mode="r:") as archive:
            for number, entry in enumerate(archive):
                if number >= 100_000:
                    raise tarfile.TarError("it has more than 100,000 members")
                place = f"{where} › {entry.name}"
                if fault := _tar_fault(entry):
                    yield ScanEvidence(score=1.0, where=place, note=fault, remedy=UNPACK)
                if entry.isfile() and entry.size:
                    content = view[entry.offset_data : entry.offset_data + entry.size]
                    must = entry.name in _OLD_TORCH or entry.name.lower().endswith(_PICKLE_NAMES)
                    yield from _code_in(entry.name, content, place)
                    yield from _look_into(content, place, budget, depth + 1, must=must)
            if any(bytes(view[archive.offset : archive.offset + _ENDS])):
                note = "content follows the end of the tar archive"
                yield ScanEvidence(score=1.0, where=where, note=note, remedy=UNPACK)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        note = f"a tar archive that cannot be read to its end ({error})"
        yield ScanEvidence(score=1.0, where=where, note=note, remedy=UNPACK)


def _tar_fault(entry: tarfile.TarInfo) -> str:
    """Words for members that no writer of checkpoints makes: once unpacked they are another file, or elsewhere."""
    if entry.name.startswith("/") or ".." in entry.name.split("/"):
        return "its name leads out of the folder that it is unpacked to"
    if entry.issym() or entry.islnk():
        return "a link within an archive"
    if entry.issparse():
        return "a file with holes, whose content is not the one that stands in the archive"
    return "" if entry.isfile() or entry.isdir() else "neither a file nor a folder"


def _compressed(view: memoryview, where: str, budget: _Budget, depth: int) -> Iterator[ScanEvidence]:
    kind = kinds.content_kind(kinds.head_of_view(view))
    try:
        content = _streams(view, kind, max(budget.left, 1))
    except TooLarge as error:
        raise bomb(budget.given, str(error)) from error
    except (BadZip, OSError, lzma.LZMAError, EOFError, ValueError, zlib.error) as error:
        note = f"a {kind} stream that cannot be unpacked ({error})"
        yield ScanEvidence(score=1.0, where=where, note=note, remedy=UNPACK)
        return
    budget.spend(len(content))
    yield from _look_into(content, f"{where} › {kind}", budget, depth + 1, must=False)


def _streams(view: memoryview, kind: str, limit: int) -> memoryview:
    """The content of all compressed streams that follow each other, as readers join them.

    Raises:
        TooLarge: it has more than ``limit`` bytes.
        BadZip, OSError, lzma.LZMAError, EOFError: it cannot be unpacked, or something else follows.
    """
    parts: list[bytes] = []
    left = limit
    while len(view):
        content, view = _first_stream(view, kind, left)
        parts.append(content)
        left -= len(content)
        if left < 0:
            raise TooLarge(f"more than {limit:,} bytes")
        view = _behind_zeros(view)
    return memoryview(b"".join(parts))


def _first_stream(view: memoryview, kind: str, limit: int) -> tuple[bytes, memoryview]:
    """The content of the first stream, of at most a byte more than ``limit``, and what follows it.

    It is read in pieces that grow, as an unpacker copies all that it was given beyond the end: of many short streams
    that would be all that follows, again and again.
    """
    unpacker, size, at, piece = _UNPACKERS[kind](), 0, 0, _PIECE
    parts: list[bytes] = []
    while not unpacker.eof and size <= limit:
        if at == len(view):
            raise BadZip("it is cut")
        given = view[at : at + piece]
        parts.append(unpacker.decompress(given, limit - size + 1))
        size += len(parts[-1])
        at += len(given)
        piece = min(2 * piece, _LARGEST_PIECE)
    return b"".join(parts), view[at - len(unpacker.unused_data) :]


def _behind_zeros(view: memoryview) -> memoryview:
    """The content behind the zeros that fill a block, however many: readers of gzip pass over them."""
    while len(view) and not any(view[:_PIECE]):
        view = view[_PIECE:]
    head = bytes(view[:_PIECE])
    return view[len(head) - len(head.lstrip(b"\0")) :]


def _faint(view: memoryview, kind: str, where: str, budget: _Budget, depth: int) -> Iterator[ScanEvidence]:
    """Content that may be compressed, by a mark of two bytes: it is where it can be unpacked."""
    try:
        content = _streams(view[_ZFILE_HEAD if kind == kinds.ZFILE else 0 :], kind, max(budget.left, 1))
    except TooLarge as error:
        raise bomb(budget.given, str(error)) from error
    except (BadZip, OSError, lzma.LZMAError, EOFError, ValueError, zlib.error):
        yield from _with_nested(unmarked(view, where), where, budget, depth)
        return
    budget.spend(len(content))
    yield from _look_into(content, f"{where} › {kind}", budget, depth + 1, must=False)


def _numpy(view: memoryview, where: str, budget: _Budget, depth: int) -> Iterator[ScanEvidence]:
    """An array of numbers holds no pickle; one of Python objects is one behind its header."""
    wide = len(view) > 7 and view[6] > 1
    start = 12 if wide else 10
    length = int.from_bytes(view[8:start], "little")
    header = bytes(view[start : start + min(length, 1 << 16)])
    try:
        about = ast.literal_eval(_PYTHON_2_LONG.sub(r"\1", header.decode("latin-1").strip()))
        dtype = np.lib.format.descr_to_dtype(about["descr"])
        size = math.prod(about["shape"]) * dtype.itemsize
    except (ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, MemoryError, RecursionError):
        yield ScanEvidence(score=1.0, where=where, note="a NumPy array whose header cannot be read", remedy=CONVERT)
        return
    rest = view[start + length :]
    if dtype.hasobject:
        yield from _with_nested(read_stream(rest, where), where, budget, depth)
    elif len(rest) > size >= 0:
        yield from _look_into(rest[size:], f"{where} › behind the array", budget, depth + 1, must=True)


_UNPACKERS: dict[str, Callable[[], Any]] = {
    kinds.GZIP: lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    kinds.BZIP2: bz2.BZ2Decompressor,
    kinds.XZ: lambda: lzma.LZMADecompressor(memlimit=1 << 28),
    kinds.LZMA: lambda: lzma.LZMADecompressor(memlimit=1 << 28),
    kinds.ZLIB: zlib.decompressobj,
    kinds.ZFILE: zlib.decompressobj,
}
Opener = Callable[[memoryview, str, _Budget, int], Iterator[ScanEvidence]]
_OPENED: dict[str, Opener] = {
    kinds.ZIP: _zip,
    kinds.TAR: _tar,
    kinds.NUMPY: _numpy,
    **dict.fromkeys(kinds.COMPRESSED, _compressed),
}
