# SPDX-License-Identifier: Apache-2.0
"""Mail: mbox files and Maildir folders. Every mail is a row, its sender the user."""

from __future__ import annotations

import mailbox
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr
from pathlib import Path

from reticent.data.readers.reader import BadRow, Row, reader


def _accepts(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        return (path / "cur").is_dir()
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(5) == b"From "


@reader("mbox", suffixes=(".mbox", ".mbx"), accepts=_accepts)
def rows(source: str) -> Iterator[Row | BadRow]:
    """Each mail with the fields ``text`` (decoded text/plain parts), ``subject``, ``user`` (the sender's address in
    lower case), ``message_id`` and ``date``; absent ones are empty. Attachments and HTML are left out. A place is
    ``file, mail n`` from 1, or the name of the file in a Maildir."""
    box: mailbox.Mailbox[mailbox.mboxMessage] | mailbox.Mailbox[mailbox.MaildirMessage]
    if Path(source).is_dir():
        box = mailbox.Maildir(source, create=False)
    else:
        box = mailbox.mbox(source, create=False)
    try:
        for number, key in enumerate(sorted(box.keys()), start=1):
            place = f"{source}/{key}" if Path(source).is_dir() else f"{source}, mail {number}"
            yield _row(place, box[key])
    finally:
        box.close()


def _row(place: str, mail: Message) -> Row | BadRow:
    texts = [_decoded(part) for part in mail.walk() if _is_body(part)]
    if not texts:
        return BadRow(place=place, why="has no text/plain part", fix="Skip such mails (--on_bad_row skip).")
    address = parseaddr(_header(mail, "From"))[1].lower()
    return Row(
        place=place,
        fields={
            "text": "\n".join(texts).replace("\r\n", "\n"),
            "subject": " ".join(_header(mail, "Subject").split()),
            "user": address,
            "message_id": _header(mail, "Message-ID").strip(),
            "date": _header(mail, "Date").strip(),
        },
    )


def _is_body(part: Message) -> bool:
    attached = part.get_content_disposition() == "attachment" or part.get_filename() is not None
    return part.get_content_type() == "text/plain" and not attached


def _decoded(part: Message) -> str:
    """The part's text. Mails often declare a wrong charset: then UTF-8 is tried, and Windows-1252 at last."""
    raw = part.get_payload(decode=True)
    assert isinstance(raw, bytes)
    for charset in (part.get_content_charset() or "utf-8", "utf-8"):
        try:
            return raw.decode(charset)
        except (LookupError, UnicodeDecodeError):
            continue
    return raw.decode("cp1252", errors="replace")


def _header(mail: Message, name: str) -> str:
    value = mail.get(name, "")
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return str(value)
