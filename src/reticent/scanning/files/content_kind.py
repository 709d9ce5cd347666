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
OLD_PACKED, LZIP, CABINET, LZOP, SNAPPY, XAR, CPIO, LRZIP = (
    *("packed stream of compress", "lzip", "cabinet", "lzop", "framed Snappy", "xar", "cpio", "lrzip"),
)
SEALED = (SEVEN_ZIP, RAR, ZSTANDARD, LZ4, OLD_PACKED, LZIP, CABINET, LZOP, SNAPPY, XAR, CPIO, LRZIP)
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
    (b"\x02\x21\x4c\x18", LZ4),
    (b"\x1f\x9d\x90", OLD_PACKED),
    (b"LZIP", LZIP),
    (b"MSCF\0\0\0\0", CABINET),
    (b"\x89LZO\0\r\n\x1a\n", LZOP),
    (b"\xff\x06\0\0sNaPpY", SNAPPY),
    (b"xar!\0", XAR),
    (b"LRZI\0", LRZIP),
    (b"\x93NUMPY", NUMPY),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"\x7fELF", PROGRAM),
    (b"MZ\x90\x00", PROGRAM),
    (b"\xcf\xfa\xed\xfe", PROGRAM),
    (b"\xfe\xed\xfa\xcf", PROGRAM),
    (b"\xce\xfa\xed\xfe", PROGRAM),
    (b"\xfe\xed\xfa\xce", PROGRAM),
    (b"\xca\xfe\xba\xbe", PROGRAM),
    (b"MZqFpD='", PROGRAM),
    (b"jartsr='", PROGRAM),
    (b"\0asm\1\0\0\0", PROGRAM),
    (b"BC\xc0\xde", PROGRAM),
)
"""Among them programs that are a shell script and machine code in one, as those that carry a model in themselves."""
_SKIPPED_FRAME = range(0x184D2A50, 0x184D2A60)
"""Marks of frames that readers of Zstandard and LZ4 pass over."""
_OF_WINDOWS, _PLACE_OF_HEADER = b"MZ", slice(60, 64)
MOST_HEADER = 100_000_000
"""Bytes of a safetensors header that the format's own reader takes."""
_MOST_LENGTH = 1 << 40
"""A length of a header that nobody wrote: in text, or among numbers, eight bytes make a larger one."""
_OBJECT = re.compile(rb"\{([\s\"}]|\Z)")
"""The beginning of an object of JSON."""
_CPIO = re.compile(rb"07070[12][0-9A-Fa-f]{104}")
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
    if kind := _by_numbers(head):
        return kind
    if len(head) > 1 and head[0] == 0x80 and head[1] in _PROTOCOLS:
        return PICKLE
    if _OBJECT.match(head, 8) and int.from_bytes(head[:8], "little") < _MOST_LENGTH:
        return SAFETENSORS
    if not is_text(head):
        return BINARY
    return JSON if _JSON.match(head) else TEXT


def _by_numbers(head: bytes) -> str:
    """The format of content whose mark is a number; empty for other content."""
    if int.from_bytes(head[:4], "little") in _SKIPPED_FRAME:
        return ZSTANDARD
    if _is_of_windows(head):
        return PROGRAM
    if _CPIO.match(head):
        return CPIO
    return SAFETENSORS if _is_header(head) else ""


def _is_header(head: bytes) -> bool:
    """True for a length that a safetensors header can have, and its first characters.

    A header of 640 bytes begins like a pickle of protocol 2, so this is asked first; whether what follows calls
    something is looked at all the same.
    """
    return int.from_bytes(head[:8], "little") <= MOST_HEADER and head[8:10] in (b'{"', b"{}")


def _is_of_windows(head: bytes) -> bool:
    """True for a program of Windows, whatever its first lines say when it is run elsewhere."""
    place = int.from_bytes(head[_PLACE_OF_HEADER], "little")
    return head[:2] == _OF_WINDOWS and 0 < place < len(head) - 4 and head[place : place + 4] == b"PE\0\0"


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
