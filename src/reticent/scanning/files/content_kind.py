# SPDX-License-Identifier: Apache-2.0
"""Formats of files by their content. Names and endings play no part: a pickle is one whatever it is called."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

HEAD = 600
"""Bytes that are enough to tell: the mark of tar stands at 257."""

SAFETENSORS, GGUF, ZIP, TAR, PICKLE, JSON, TEXT, EMPTY = (
    "safetensors",
    "GGUF",
    "zip",
    "tar",
    "pickle",
    "JSON",
    "text",
    "empty",
)
NUMPY, HDF5, SEVEN_ZIP, RAR, BINARY = "NumPy array", "HDF5", "7z", "RAR", "binary"
GZIP, BZIP2, XZ, ZSTANDARD, LZ4 = "gzip", "bzip2", "xz", "Zstandard", "LZ4"
ZLIB, ZFILE, LZMA = "zlib", "compressed pickle of the oldest joblib", "lzma"
COMPRESSED = (GZIP, BZIP2, XZ)
"""Compressed streams that the standard library reads."""
FAINT = (ZLIB, ZFILE, LZMA)
"""Compressed streams with a mark so short that other content can begin with it."""
SEALED = (SEVEN_ZIP, RAR, ZSTANDARD, LZ4)
"""Archives that nothing here can look into."""
PROGRAM = "machine code"

_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"GGUF", GGUF),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"PK\x07\x08", ZIP),
    (b"7z\xbc\xaf\x27\x1c", SEVEN_ZIP),
    (b"Rar!\x1a\x07", RAR),
    (b"\x1f\x8b", GZIP),
    (b"BZh", BZIP2),
    (b"\xfd7zXZ\x00", XZ),
    (b"\x28\xb5\x2f\xfd", ZSTANDARD),
    (b"\x04\x22\x4d\x18", LZ4),
    (b"\x93NUMPY", NUMPY),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"\x7fELF", PROGRAM),
    (b"MZ\x90\x00", PROGRAM),
    (b"\xcf\xfa\xed\xfe", PROGRAM),
    (b"\xfe\xed\xfa\xcf", PROGRAM),
    (b"\xca\xfe\xba\xbe", PROGRAM),
)
_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*(\{\s*[\"}]|\[\s*[\"\[\]{0-9tfn-])")
_PROTOCOLS = range(2, 6)
_TAR_MARK, _TAR_HEADER = slice(257, 262), 512
_TEXT_CONTROLS = b"\t\n\r\x0c\x1b"


def content_kind(head: bytes) -> str:
    """The format of content that begins with ``head`` (`HEAD` bytes, or all there is).

    A legacy pickle without a mark looks like text or like binary; `reticent.scanning.files.pickles` tries those out.

    >>> content_kind(b"\\x80\\x04\\x95"), content_kind(b'{"a": 1}'), content_kind(b"PK\\x03\\x04")
    ('pickle', 'JSON', 'zip')
    """
    if not head:
        return EMPTY
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if head[_TAR_MARK] == b"ustar" or _sums_up(head):
        return TAR
    if len(head) > 1 and head[0] == 0x80 and head[1] in _PROTOCOLS:
        return PICKLE
    if len(head) > 8 and head[8:9] == b"{":
        return SAFETENSORS
    if not is_text(head):
        return BINARY
    return JSON if _JSON.match(head) else TEXT


def _sums_up(head: bytes) -> bool:
    """True for the header of a tar archive without its mark, as the first programs wrote it: it has a sum of itself."""
    try:
        tarfile.TarInfo.frombuf(head[:_TAR_HEADER], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def faint_kind(head: bytes) -> str:
    """The format of a compressed stream with a mark of two bytes or so; empty for other content."""
    if head.startswith(b"ZF0x"):
        return ZFILE
    if head[:1] == b"\x78" and len(head) > 2 and int.from_bytes(head[:2], "big") % 31 == 0:
        return ZLIB
    return LZMA if head.startswith(b"\x5d\x00\x00") else ""


def is_text(head: bytes) -> bool:
    """True if the bytes could be UTF-8 text, whose last character may be cut."""
    if any(byte < 32 and byte not in _TEXT_CONTROLS for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3
    return True


def head_of(path: Path) -> bytes:
    """The first `HEAD` bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD)


def head_of_view(view: bytes | memoryview) -> bytes:
    """The first `HEAD` bytes of content in memory."""
    return bytes(memoryview(view)[:HEAD])
