# SPDX-License-Identifier: Apache-2.0
"""The instructions of pickles as data: for each code its name and the form of its argument.

Protocols 0 to 5, after PEP 307, 3154 and 574. Arguments of any size are views into the content, so that gigabytes of
weights inside a pickle are passed over and not copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

MOST_LINE = 1 << 20
"""Bytes of a line argument that are kept: a name or a number is never longer, and a loader reads on."""


class Unreadable(Exception):
    """The stream ends early, or holds an instruction that there is none of."""


def _nothing(view: memoryview, at: int) -> tuple[Any, int]:
    return None, at


def _bytes_of(size: int) -> Callable[[memoryview, int], tuple[Any, int]]:
    def read(view: memoryview, at: int) -> tuple[Any, int]:
        return _cut(view, at, size)

    return read


def _number(size: int, *, signed: bool = False) -> Callable[[memoryview, int], tuple[Any, int]]:
    def read(view: memoryview, at: int) -> tuple[Any, int]:
        part, end = _cut(view, at, size)
        return int.from_bytes(part, "little", signed=signed), end

    return read


def _sized(size: int) -> Callable[[memoryview, int], tuple[Any, int]]:
    def read(view: memoryview, at: int) -> tuple[Any, int]:
        part, end = _cut(view, at, size)
        return _cut(view, end, int.from_bytes(part, "little"))

    return read


def _line(view: memoryview, at: int) -> tuple[Any, int]:
    start, size = at, 256
    while start < len(view):
        place = bytes(view[start : start + size]).find(b"\n")
        if place >= 0:
            end = start + place
            return bytes(view[at : min(end, at + MOST_LINE)]), end + 1
        start, size = start + size, MOST_LINE
    raise Unreadable("a line does not end")


def _two_lines(view: memoryview, at: int) -> tuple[Any, int]:
    first, middle = _line(view, at)
    second, end = _line(view, middle)
    return (first, second), end


def _float8(view: memoryview, at: int) -> tuple[Any, int]:
    part, end = _cut(view, at, 8)
    return struct.unpack(">d", part)[0], end


def _cut(view: memoryview, at: int, size: int) -> tuple[memoryview, int]:
    end = at + size
    if end > len(view):
        raise Unreadable(f"it ends at byte {len(view)}, within an argument of {size} bytes")
    return view[at:end], end


Reader = Callable[[memoryview, int], tuple[Any, int]]

OPCODES: Mapping[int, tuple[str, Reader]] = {
    ord(code): (name, reader)
    for code, name, reader in (
        ("I", "INT", _line),
        ("J", "BININT", _number(4, signed=True)),
        ("K", "BININT1", _number(1)),
        ("M", "BININT2", _number(2)),
        ("L", "LONG", _line),
        ("\x8a", "LONG1", _sized(1)),
        ("\x8b", "LONG4", _sized(4)),
        ("S", "STRING", _line),
        ("T", "BINSTRING", _sized(4)),
        ("U", "SHORT_BINSTRING", _sized(1)),
        ("B", "BINBYTES", _sized(4)),
        ("C", "SHORT_BINBYTES", _sized(1)),
        ("\x8e", "BINBYTES8", _sized(8)),
        ("\x96", "BYTEARRAY8", _sized(8)),
        ("\x97", "NEXT_BUFFER", _nothing),
        ("\x98", "READONLY_BUFFER", _nothing),
        ("N", "NONE", _nothing),
        ("\x88", "NEWTRUE", _nothing),
        ("\x89", "NEWFALSE", _nothing),
        ("V", "UNICODE", _line),
        ("\x8c", "SHORT_BINUNICODE", _sized(1)),
        ("X", "BINUNICODE", _sized(4)),
        ("\x8d", "BINUNICODE8", _sized(8)),
        ("F", "FLOAT", _line),
        ("G", "BINFLOAT", _float8),
        ("]", "EMPTY_LIST", _nothing),
        ("a", "APPEND", _nothing),
        ("e", "APPENDS", _nothing),
        ("l", "LIST", _nothing),
        (")", "EMPTY_TUPLE", _nothing),
        ("t", "TUPLE", _nothing),
        ("\x85", "TUPLE1", _nothing),
        ("\x86", "TUPLE2", _nothing),
        ("\x87", "TUPLE3", _nothing),
        ("}", "EMPTY_DICT", _nothing),
        ("d", "DICT", _nothing),
        ("s", "SETITEM", _nothing),
        ("u", "SETITEMS", _nothing),
        ("\x8f", "EMPTY_SET", _nothing),
        ("\x90", "ADDITEMS", _nothing),
        ("\x91", "FROZENSET", _nothing),
        ("0", "POP", _nothing),
        ("2", "DUP", _nothing),
        ("(", "MARK", _nothing),
        ("1", "POP_MARK", _nothing),
        ("g", "GET", _line),
        ("h", "BINGET", _number(1)),
        ("j", "LONG_BINGET", _number(4)),
        ("p", "PUT", _line),
        ("q", "BINPUT", _number(1)),
        ("r", "LONG_BINPUT", _number(4)),
        ("\x94", "MEMOIZE", _nothing),
        ("\x82", "EXT", _number(1)),
        ("\x83", "EXT", _number(2)),
        ("\x84", "EXT", _number(4)),
        ("c", "GLOBAL", _two_lines),
        ("\x93", "STACK_GLOBAL", _nothing),
        ("R", "REDUCE", _nothing),
        ("b", "BUILD", _nothing),
        ("i", "INST", _two_lines),
        ("o", "OBJ", _nothing),
        ("\x81", "NEWOBJ", _nothing),
        ("\x92", "NEWOBJ_EX", _nothing),
        ("\x80", "PROTO", _number(1)),
        (".", "STOP", _nothing),
        ("\x95", "FRAME", _bytes_of(8)),
        ("P", "PERSID", _line),
        ("Q", "BINPERSID", _nothing),
    )
}
"""Code of an instruction → its name, and the reader of its argument: ``(view, offset) -> (argument, end)``."""
