# SPDX-License-Identifier: Apache-2.0
"""Where each mail begins in an mbox file.

A mail begins behind a line ``From <sender> <date>``. People also begin paragraphs with "From ", and few programs still
put ``>`` before such a line, so a line counts only where it ends in a date and header fields follow (RFC 4155 gives the
form; mailboxes of many programs are looser, see `_ENVELOPE`). Inside of a multipart mail whose end is still to come, it
is part of that mail, however much it looks like another.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = rb"\d{1,2}:\d\d(?::\d\d)?"
_ENVELOPE = re.compile(
    rb"From\s+(?:\S+\s+){0,6}?(?:"
    + rb"|".join(
        (
            rb"%s,?\s+%s\s+\d{1,2}\s+%s(?:\s+\S+){0,2}?\s+\d{4}(?:\s+\S+){0,4}" % (_DAY, _MONTH, _TIME),
            rb"(?:%s,?\s+)?\d{1,2}[ -]%s[ -]\d{4}\s+%s(?:\s+\S+){0,3}" % (_DAY, _MONTH, _TIME),
            rb"\d{4}-\d\d-\d\d[T ]%s\S*(?:\s+\S+)?" % _TIME,
        )
    )
    + rb")\s*"
)
"""The three ways to write the date: as C's asctime does, with or without a zone; as in mail headers; ISO 8601."""
_BARE = re.compile(rb"From(?:\s+\S+)?\s*")
"""A line without a date, which some programs write."""
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_SENDER = re.compile(rb"From[ \t]*:", re.IGNORECASE)
_OTHER = re.compile(rb"(?:Date|Message-ID|Received|MIME-Version|To|Subject|Return-Path)[ \t]*:", re.IGNORECASE)
_BOUNDARY = re.compile(rb"""boundary\s*=\s*(?:"([^"\r\n]+)"|([^\s;"]+))""", re.IGNORECASE)
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_HEADER_LINES = 200


def mails(file: BinaryIO) -> Iterator[bytes]:
    """Each mail of an mbox file, without the line that it begins behind and the blank line that ends it.

    Lines ``>From `` in the text, which the writer of the file quoted so that no mail begins there, lose one ``>``.

    Args:
        file: read line by line; one mail at a time is held.
    """
    held: list[bytes] = []
    mark: bytes | None = None  # of a multipart mail whose end is still to come
    for part in _parts(file):
        if mark is None or _boundary(part) == mark or not _delimits(part, mark, b""):
            yield from _mail(b"".join(held))
            held, mark = [], _boundary(part)
        held.append(part)
        if mark is not None and _delimits(part, mark, b"--"):
            mark = None
    yield from _mail(b"".join(held))


def _parts(file: BinaryIO) -> Iterator[bytes]:
    """The file, cut before each line that may begin a mail."""
    lines = _Lines(file)
    part: list[bytes] = []
    first, blank, bare = True, True, False
    while (line := lines.next()) is not None:
        if line.startswith(b"From "):
            bare |= first and not _ENVELOPE.fullmatch(line)
            if first or (_FIELD.match(lines.peek()) and _begins(line, lines.ahead(), blank=blank, bare=bare)):
                if not first:
                    yield b"".join(part)
                part = []
        part.append(line)
        blank = not line.strip()
        first &= blank
    yield b"".join(part)


class _Lines:
    """Lines of a file, with a look at the ones ahead."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._read = file, deque[bytes]()

    def next(self) -> bytes | None:
        return self._read.popleft() if self._read else (self._file.readline() or None)

    def peek(self) -> bytes:
        """The next one; empty at the end."""
        if not self._read and (line := self._file.readline()):
            self._read.append(line)
        return self._read[0] if self._read else b""

    def ahead(self) -> list[bytes]:
        """Those up to the next blank one."""
        while len(self._read) < _HEADER_LINES and (not self._read or self._read[-1].strip()):
            line = self._file.readline()
            if not line:
                break
            self._read.append(line)
        lines = []
        for line in self._read:
            if not line.strip():
                break
            lines.append(line)
        return lines


def _begins(line: bytes, header: list[bytes], *, blank: bool, bare: bool) -> bool:
    """True if a mail begins behind ``line``.

    Args:
        header: the lines behind it, up to a blank one; the first is a field.
        blank: whether a blank line is before it.
        bare: whether the file's first such line has no date either.
    """
    dated = _ENVELOPE.fullmatch(line) is not None
    if dated and blank:
        return True
    if not any(_SENDER.match(field) for field in header):
        return False
    return dated or (bare and _BARE.fullmatch(line) is not None and any(_OTHER.match(field) for field in header))


def _boundary(mail: bytes) -> bytes | None:
    match = _BOUNDARY.search(re.split(rb"\r?\n\r?\n", mail, maxsplit=1)[0])
    return None if match is None else match[1] or match[2]


def _delimits(mail: bytes, boundary: bytes, end: bytes) -> bool:
    return re.search(rb"^--%s%s" % (re.escape(boundary), end), mail, re.MULTILINE) is not None


def _mail(part: bytes) -> Iterator[bytes]:
    first, _, rest = part.partition(b"\n")
    mail = rest if first.startswith(b"From ") else part
    if not mail.strip():
        return
    for end in (b"\r\n", b"\n"):
        if mail.endswith(end + end):
            mail = mail[: -len(end)]
            break
    header, gap, body = _halves(mail)
    yield header + gap + _QUOTED.sub(rb"\1", body)


def _halves(mail: bytes) -> tuple[bytes, bytes, bytes]:
    match = re.search(rb"\r?\n\r?\n", mail)
    return (mail, b"", b"") if match is None else (mail[: match.start()], match[0], mail[match.end() :])
