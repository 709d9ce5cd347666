# SPDX-License-Identifier: Apache-2.0
"""Graphs of ONNX and TensorFlow, read as protobuf: weights outside of the folder, and operations on files or Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

FILE_OPS = (
    *("ReadFile", "WriteFile", "PyFunc", "PyFuncStateless", "EagerPyFunc", "MatchingFiles", "WholeFileReader"),
    *("WholeFileReaderV2", "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset"),
    *("FixedLengthRecordDatasetV2", "SaveDataset", "SaveDatasetV2", "LoadDataset", "DatasetToTFRecord"),
    *("CreateSummaryFileWriter", "CreateSummaryDbWriter", "DebugIdentity", "DebugIdentityV2", "LookupTableExport"),
)
"""Operations of TensorFlow by which a graph reads or writes any file, or calls Python."""
MOST_FIELDS = 2_000_000
MOST_DEPTH = 24
_BYTES, _VARINT, _FIXED64, _FIXED32 = 2, 0, 1, 5

Schema = Mapping[int, str]
_ONNX: Mapping[str, Schema] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "=key", 2: "=value"},
}
_GRAPH: Mapping[str, Schema] = {
    "saved": {2: "meta"},
    "meta": {2: "graph"},
    "graph": {1: "node", 2: "library"},
    "library": {1: "function"},
    "function": {3: "node"},
    "node": {2: "=op"},
}
"""Kind of a message → number of a field → kind of what it holds; ``=``: words that are kept."""


class _Unreadable(Exception):
    """The content is no protobuf, or more than is read."""


@dataclass(kw_only=True)
class _Walk:
    schema: Mapping[str, Schema]
    left: int = MOST_FIELDS

    def words(self, view: memoryview, kind: str, depth: int = 0) -> Iterator[tuple[str, dict[str, str]]]:
        """``(kind, words)`` of all messages that keep some."""
        if depth > MOST_DEPTH:
            raise _Unreadable("graphs stand in graphs, too deep")
        texts: dict[str, str] = {}
        for number, part in self._fields(view):
            inner = self.schema[kind].get(number, "")
            if inner.startswith("="):
                texts[inner[1:]] = bytes(part[:4096]).decode("utf-8", "replace")
            elif inner:
                yield from self.words(part, inner, depth + 1)
        if texts:
            yield kind, texts

    def _fields(self, view: memoryview) -> Iterator[tuple[int, memoryview]]:
        at = 0
        while at < len(view):
            self.left -= 1
            if self.left < 0:
                raise _Unreadable(f"it has more than {MOST_FIELDS:,} fields")
            key, at = _varint(view, at)
            form = key & 7
            if form == _VARINT:
                _, at = _varint(view, at)
            elif form in (_FIXED64, _FIXED32):
                at += 8 if form == _FIXED64 else 4
            elif form == _BYTES:
                size, at = _varint(view, at)
                if at + size > len(view):
                    raise _Unreadable("a field goes beyond its end")
                yield key >> 3, view[at : at + size]
                at += size
            else:
                raise _Unreadable(f"byte {at} begins no field")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Unreadable("a number does not end")


def leaves_folder(path: str) -> bool:
    """True for a path that leads out of a folder, or to another machine.

    >>> [leaves_folder(path) for path in ("a/b.bin", "../b.bin", "C:\\\\b.bin", "/b", "https://x/b")]
    [False, True, True, True, True]
    """
    parts = re.split(r"[\\/]", path)
    return ".." in parts or path.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:|\w+://", path) is not None


def onnx_notes(view: memoryview) -> list[str]:
    """Words on weights of an ONNX graph that lie outside of its folder.

    >>> entry = b"\\x0a\\x08location\\x12\\x04../x"
    >>> graph = b"\\x2a" + bytes([len(entry) + 2]) + b"\\x6a" + bytes([len(entry)]) + entry
    >>> onnx_notes(memoryview(b"\\x08\\x07\\x3a" + bytes([len(graph)]) + graph))
    ["1 tensors lie outside of the folder: '../x'"]
    """
    try:
        rows = [words for _, words in _Walk(schema=_ONNX).words(view, "model")]
    except _Unreadable as error:
        return [f"an ONNX graph that cannot be read ({error})"]
    places = [words.get("value", "") for words in rows if words.get("key") == "location"]
    away = [place for place in places if leaves_folder(place)]
    return [f"{len(away)} tensors lie outside of the folder: {away[0][:80]!r}"] if away else []


def tensorflow_notes(view: memoryview) -> list[str]:
    """Words on operations of a TensorFlow graph that touch files or call Python; ``view``: a saved model or a graph."""
    ops: dict[str, None] = {}
    for start in ("saved", "graph"):
        try:
            for _, words in _Walk(schema=_GRAPH).words(view, start):
                if words.get("op") in FILE_OPS:
                    ops[words["op"]] = None
        except _Unreadable:
            continue  # it is of the other kind, or no graph; operations that came before count
    return [_said(list(ops))] if ops else []


def _said(ops: Sequence[str]) -> str:
    return f"has the operations {', '.join(ops)}, by which a graph touches files or calls Python"
