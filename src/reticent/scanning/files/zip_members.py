# SPDX-License-Identifier: Apache-2.0
"""Members of a zip archive, read from both of its lists.

Loaders differ in which list they follow and in the flags that they look at, so an archive whose lists disagree shows
one content to a scanner and another to the loader.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reticent.scanning.files.graph_files import leaves_folder

END, CENTRAL, LOCAL = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04"
END64, LOCATOR64, DESCRIPTOR = b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"
_END, _CENTRAL, _LOCAL = struct.Struct("<4s4H2IH"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s5H3I2H")
_END64 = struct.Struct("<4sQ2H2I4Q")
_MOST_COMMENT = 1 << 16
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _PATCH, _MASKED = 0x0001, 0x0020, 0x2000
_DESCRIPTOR_BYTES = 24
MOST_MEMBERS = 1 << 20
_FILE_TYPE, _LINK = 0o170000, 0o120000
"""Bits of a member's mode that say what it is, and those of a link."""


class BadZip(Exception):
    """The archive cannot be read as one."""


class TooLarge(Exception):
    """The content is larger unpacked than the limit."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member.

    Args:
        name: as the central list has it.
        method: 0 stored, 8 deflated.
        packed: bytes in the archive.
        size: bytes unpacked, as declared.
        header: byte of its local header.
        data: byte of its content.
        is_link: whether it is unpacked as a link, by programs that make some.
    """

    name: str
    method: int
    packed: int
    size: int
    header: int
    data: int
    is_link: bool = False


@dataclass(frozen=True, kw_only=True)
class ZipListing:
    """All members, the content that their places count in, and oddities that no writer of checkpoints makes."""

    view: memoryview
    members: tuple[Member, ...]
    oddities: tuple[str, ...]


def list_members(view: memoryview) -> ZipListing:
    """Read both lists of an archive.

    Raises:
        BadZip: there is no list, or it is cut.
    """
    try:
        return _list(view)
    except (struct.error, IndexError) as error:
        raise BadZip("its list of members is cut") from error


def _list(view: memoryview) -> ZipListing:
    end = _end_of(view)
    count, start, size, before = _counts(view, end)
    oddities: list[str] = []
    if before:
        oddities.append(f"{before} bytes stand before the archive")
        view, end = view[before:], end - before
    behind = len(view) - end - _END.size - int.from_bytes(view[end + 20 : end + 22], "little")
    if behind:
        oddities.append(f"{behind} bytes follow the end of the archive")
    members, seen = [], set()
    for member, flags in _central(view, start, count, size):
        located, odd = _locate(view, member, flags)
        oddities += odd
        if member.name in seen:
            oddities.append(f"member {member.name!r} is there twice")
        seen.add(member.name)
        members.append(located)
    oddities += _gaps(members, start)
    return ZipListing(view=view, members=tuple(members), oddities=tuple(dict.fromkeys(oddities)))


def _end_of(view: memoryview) -> int:
    from_here = max(0, len(view) - _END.size - _MOST_COMMENT)
    place = bytes(view[from_here:]).rfind(END)
    if place < 0:
        raise BadZip("it has no list of members at its end")
    return from_here + place


def _counts(view: memoryview, end: int) -> tuple[int, int, int, int]:
    """Number of members, byte of the central list, its bytes, and bytes before the archive, which its places do not
    count; of a large archive from its second record."""
    _, _, _, _, count, size, start, _ = _END.unpack(view[end : end + _END.size])
    close = end
    if end >= 20 and bytes(view[end - 20 : end - 16]) == LOCATOR64:
        at = int.from_bytes(view[end - 12 : end - 4], "little")
        if bytes(view[at : at + 4]) != END64 or at + _END64.size != end - 20:
            raise BadZip("its second list of members is not where it says")
        large = _END64.unpack(view[at : at + _END64.size])
        if count not in (0xFFFF, large[7]) or start not in (0xFFFFFFFF, large[9]):
            raise BadZip("its two records of the end disagree")
        count, size, start, close = large[7], large[8], large[9], at
    if count > MOST_MEMBERS:
        raise BadZip(f"it lists {count} members")
    if close - size < start:
        raise BadZip("its list of members is not where it says")
    return count, start, size, close - size - start


def _central(view: memoryview, at: int, count: int, bytes_: int) -> Iterator[tuple[Member, int]]:
    stop = at + bytes_
    for _ in range(count):
        row = _CENTRAL.unpack(view[at : at + _CENTRAL.size])
        if row[0] != CENTRAL:
            raise BadZip("its list of members is broken")
        name_size, extra_size, comment_size = row[10], row[11], row[12]
        name = bytes(view[at + _CENTRAL.size : at + _CENTRAL.size + name_size])
        extra = bytes(view[at + _CENTRAL.size + name_size :][:extra_size])
        size, packed, header = _large(extra, row[9], row[8], row[16])
        decoded = name.decode("utf-8", "backslashreplace")
        is_link = (row[15] >> 16) & _FILE_TYPE == _LINK
        member = Member(name=decoded, method=row[4], packed=packed, size=size, header=header, data=0, is_link=is_link)
        yield member, row[3]
        at += _CENTRAL.size + name_size + extra_size + comment_size
    if at != stop:
        raise BadZip("its list has another length than its number of members")


def _large(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Sizes and place, with those of the extra field of large archives where the record says so."""
    values = [size, packed, header]
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<2H", extra[at : at + 4])
        if kind == 1:
            numbers = iter(struct.unpack(f"<{length // 8}Q", extra[at + 4 : at + 4 + length // 8 * 8]))
            values = [next(numbers, value) if value == 0xFFFFFFFF else value for value in values]
        at += 4 + length
    return values[0], values[1], values[2]


def _locate(view: memoryview, member: Member, flags: int) -> tuple[Member, list[str]]:
    """The member with the place of its content, and where its local header disagrees."""
    row = _LOCAL.unpack(view[member.header : member.header + _LOCAL.size])
    if row[0] != LOCAL:
        raise BadZip(f"member {member.name!r} is not where the list says")
    start = member.header + _LOCAL.size
    name = bytes(view[start : start + row[9]]).decode("utf-8", "backslashreplace")
    located = replace(member, data=start + row[9] + row[10])
    if located.data + located.packed > len(view):
        raise BadZip(f"member {member.name!r} is cut")
    odd = list(_elsewhere(member))
    if (flags | row[2]) & (_ENCRYPTED | _PATCH | _MASKED):
        odd.append(f"member {member.name!r} is marked as encrypted, which some loaders pass over")
    if name != member.name:
        odd.append(f"member {member.name!r} is called {name!r} by its own header")
    if row[3] != member.method or row[2] != flags:
        odd.append(f"member {member.name!r} has two ways of packing")
    sizes = (row[7], row[8])
    if not any(size in (0, 0xFFFFFFFF) for size in sizes) and sizes != (member.packed, member.size):
        odd.append(f"member {member.name!r} has two sizes")
    if member.method == _STORED and member.packed != member.size:
        odd.append(f"member {member.name!r} is stored, and has two sizes")
    if member.method not in (_STORED, _DEFLATED):
        odd.append(f"member {member.name!r} is packed by method {member.method}, which nothing here reads")
    return located, odd


def _elsewhere(member: Member) -> Iterator[str]:
    """Words on a member that is unpacked to another place, or as another file."""
    if leaves_folder(member.name):
        yield f"member {member.name!r} leads out of the folder that it is unpacked to"
    if member.is_link:
        yield f"member {member.name!r} is a link within an archive"


def _gaps(members: Sequence[Member], end: int) -> Iterator[str]:
    """Bytes between members that belong to none, and members that overlap."""
    at = 0
    for member in sorted(members, key=lambda entry: entry.header):
        if member.header < at:
            yield f"member {member.name!r} overlaps another"
        elif member.header - at > _DESCRIPTOR_BYTES or (at == 0 and member.header):
            yield f"{member.header - at} bytes before member {member.name!r} belong to none"
        at = max(at, member.data + member.packed)
    if not 0 <= end - at <= _DESCRIPTOR_BYTES:
        yield f"{end - at} bytes before the list of members belong to none"


def unpack(view: memoryview, member: Member, limit: int) -> memoryview:
    """The content of a member.

    Raises:
        TooLarge: it has more than ``limit`` bytes.
        BadZip: it cannot be unpacked.
    """
    raw = view[member.data : member.data + member.packed]
    if member.method == _STORED:
        return raw  # a view: nothing is copied, however large it is
    if member.method != _DEFLATED:
        raise BadZip(f"method {member.method} is not read here")
    return inflate(raw, limit, zlib.decompressobj(-zlib.MAX_WBITS))


def inflate(raw: memoryview, limit: int, unpacker: zlib._Decompress) -> memoryview:
    """Unpacked content of a deflated stream; errors as in `unpack`."""
    try:
        content = unpacker.decompress(raw, limit + 1)
    except zlib.error as error:
        raise BadZip(f"it cannot be unpacked ({error})") from error
    if len(content) > limit:
        raise TooLarge(f"more than {limit:,} bytes")
    if not unpacker.eof:
        raise BadZip("it is cut")
    return memoryview(content)
