# SPDX-License-Identifier: Apache-2.0
"""Scanner of GGUF headers: counts and places that fit the file. Templates in it go to `chat_templates`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.file_by_file import file_by_file
from reticent.scanning.files.folder_files import MOST_REPEATED, FolderFile, folder_files
from reticent.scanning.files.safetensors_headers import AGAIN, tiling_faults
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect

TEMPLATE = "tokenizer.chat_template"
ALIGNMENT = "general.alignment"
MOST_ENTRIES = 4_000_000
"""Entries of an array, tensors or fields. The largest vocabularies have some 300,000."""
MOST_TEXT = 64 << 20
"""Bytes of a name or a field. The largest of these are templates, of some 20,000."""
MOST_DEPTH = 4
_VERSIONS = (2, 3)
_FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
TYPES: dict[int, tuple[int, int]] = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17)},
}
"""Number of a tensor's type in ggml → elements of a block, and its bytes."""


class BadGguf(Exception):
    """The header cannot be read."""


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """A tensor's name, place and bytes; None for a type that is not known here."""

    name: str
    offset: int
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class GgufHeader:
    """Fields by name (of arrays only the number of entries), names that stand twice, tensors, where data begin."""

    fields: dict[str, Any]
    twice: tuple[str, ...]
    tensors: tuple[GgufTensor, ...]
    data: int


@scanner(
    name="gguf_headers",
    title="GGUF files that are not what they say",
    kind="files",
    null="rule",
    blind_to="The numbers of the tensors, and faults of the programs that read the file.",
    order=12,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence for headers that cannot be read, or whose tensors do not tile the file."""
    return file_by_file(folder_files(suspect.folder), _of_file)


def _of_file(file: FolderFile) -> Iterator[ScanEvidence]:
    notes: list[str] = []
    if file.kind == kinds.GGUF:
        notes = list(gguf_faults(file))[:MOST_REPEATED]
    elif file.path.endswith(".gguf"):
        notes = [f"is called GGUF, and its content is {file.kind}"]
    yield from (ScanEvidence(score=1.0, where=file.path, note=note, remedy=AGAIN) for note in notes)


def gguf_faults(file: FolderFile) -> Iterator[str]:
    """Faults of one file, in words."""
    try:
        header = read_header(file.view())
    except BadGguf as error:
        yield f"its header cannot be read: {error}"
        return
    yield from (f"the field {name!r} stands twice" for name in header.twice)
    names = [tensor.name for tensor in header.tensors]
    if len(set(names)) < len(names):
        yield "two tensors have one name"
    unknown = [tensor.name for tensor in header.tensors if tensor.bytes is None]
    if unknown:
        yield f"tensor {unknown[0]!r} is of an unknown type"
        return
    align = header.fields.get(ALIGNMENT, 32)
    align = align if isinstance(align, int) and 0 < align <= 1 << 20 else 32
    places = [(tensor.offset, tensor.offset + (tensor.bytes or 0), tensor.name) for tensor in header.tensors]
    yield from tiling_faults(places, file.bytes - header.data, align)


def read_header(view: memoryview) -> GgufHeader:
    """The header of a file.

    Raises:
        BadGguf: it is cut, or says what cannot be.
    """
    try:
        return _Header(view=view).read()
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise BadGguf(f"it is cut or broken ({error})") from error


@dataclass(kw_only=True)
class _Header:
    view: memoryview
    at: int = 4
    order: str = "<"
    twice: list[str] = field(default_factory=list)

    def read(self) -> GgufHeader:
        version = self.number("I")
        if version > 0xFFFF:
            self.order, self.at = ">", 4
            version = self.number("I")
        if version not in _VERSIONS:
            raise BadGguf(f"it is of version {version}")
        tensors, entries = self.count(), self.count()
        fields: dict[str, Any] = {}
        for _ in range(entries):
            name = self.text()
            if name in fields:
                self.twice.append(name)
            fields[name] = self.value(self.number("I"), 0)
        listed = [self.tensor() for _ in range(tensors)]
        align = fields.get(ALIGNMENT, 32)
        align = align if isinstance(align, int) and 0 < align <= 1 << 20 else 32
        data = -(-self.at // align) * align
        return GgufHeader(fields=fields, twice=tuple(self.twice), tensors=tuple(listed), data=data)

    def number(self, form: str) -> Any:
        size = struct.calcsize(self.order + form)
        value = struct.unpack(self.order + form, self.view[self.at : self.at + size])[0]
        self.at += size
        return value

    def count(self) -> int:
        number = int(self.number("Q"))
        if number > MOST_ENTRIES:
            raise BadGguf(f"it would have {number:,} entries")
        return number

    def text(self) -> str:
        size = int(self.number("Q"))
        if self.at + size > len(self.view):
            raise BadGguf("a text goes beyond the end of the file")
        if size > MOST_TEXT:
            raise BadGguf(f"a text has {size:,} bytes")
        text = bytes(self.view[self.at : self.at + size]).decode("utf-8", "replace")
        self.at += size
        return text

    def value(self, kind: int, depth: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array(depth)
        if kind not in _FORMS:
            raise BadGguf(f"a field is of the unknown type {kind}")
        return self.number(_FORMS[kind])

    def array(self, depth: int) -> int:
        """Pass over an array; gives the number of its entries."""
        kind, entries = self.number("I"), self.count()
        if depth >= MOST_DEPTH:
            raise BadGguf("arrays stand in arrays, too deep")
        if kind in _FORMS:
            self.at += entries * struct.calcsize(self.order + _FORMS[kind])
        elif kind == _STRING:
            self.texts(entries)
        else:
            for _ in range(entries):
                self.value(kind, depth + 1)
        if self.at > len(self.view):
            raise BadGguf("an array goes beyond the end of the file")
        return entries

    def texts(self, entries: int) -> None:
        unpack, view, at = struct.Struct(self.order + "Q").unpack_from, self.view, self.at
        for _ in range(entries):
            at += 8 + unpack(view, at)[0]
            if at > len(view):
                raise BadGguf("an array goes beyond the end of the file")
        self.at = at

    def tensor(self) -> GgufTensor:
        name, sizes = self.text(), int(self.number("I"))
        if sizes > 8:
            raise BadGguf(f"tensor {name!r} has {sizes} dimensions")
        elements = 1
        for _ in range(sizes):
            elements *= int(self.number("Q"))
        kind, offset = self.number("I"), int(self.number("Q"))
        block = TYPES.get(kind)
        size = None if block is None else -(-elements // block[0]) * block[1]
        return GgufTensor(name=name, offset=offset, bytes=size)
