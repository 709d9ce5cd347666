# SPDX-License-Identifier: Apache-2.0
"""Mail: mbox files, Maildir folders, single mails (``.eml``) and folders of them. Every mail is a row, its sender the
user."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.data.mail.body import written
from reticent.data.mail.box import mails
from reticent.data.mail.sender import decoded, header, sender
from reticent.data.mail.unreadable import Unreadable
from reticent.data.readers.reader import BadRow, InputRow, example_file, reader

_MAILDIR = ("cur", "new")
_BROKEN = (MessageError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors that the standard library raises on mails that keep to no rule."""


def _accepts(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        return (path / "cur").is_dir() or any(path.glob("*.eml"))
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(5) == b"From "


_EXAMPLE = "".join(
    f"From a@example.org Mon Jan  1 00:00:00 2024\nFrom: a@example.org\nSubject: {word}\n\nThe text is {word}.\n\n"
    for word in ("one", "two")
)


@reader("mbox", suffixes=(".mbox", ".mbx", ".eml"), accepts=_accepts, example=example_file("a.mbox", _EXAMPLE))
def rows(source: str) -> Iterator[InputRow | BadRow]:
    """Each mail with the fields ``text`` (what its writer wrote, see `data.mail.body`), ``subject``, ``user`` (the
    writer's address in lower case, see `data.mail.sender`), ``message_id`` and ``date``; the last three may be empty.

    A mail whose writer or text cannot be told is a bad row. A place is ``file, mail n`` from 1, or the name of the file
    in a folder, in a Maildir without the flags behind it.
    """
    path = Path(source)
    if path.is_dir():
        for file in _files(path):
            yield _row(f"{source}/{file.name.partition(':')[0]}", file.read_bytes())
    elif source.lower().endswith(".eml"):
        yield _row(source, path.read_bytes())
    else:
        with path.open("rb") as box:
            for number, raw in enumerate(mails(box), start=1):
                yield _row(f"{source}, mail {number}", raw)


def _files(folder: Path) -> list[Path]:
    """Mails of a Maildir by name, whether they were seen or not; else all ``.eml`` files."""
    if (folder / "cur").is_dir():
        files = [file for name in _MAILDIR if (folder / name).is_dir() for file in (folder / name).iterdir()]
        files = [file for file in files if not file.name.startswith(".")]
    else:
        files = list(folder.glob("*.eml"))
    if any(not file.is_file() for file in files):
        raise BadInput(str(folder), "holds something that is no file where mails are", "Name a folder of mails.")
    return sorted(files, key=lambda file: (file.name, file.parent.name))


def _row(place: str, raw: bytes) -> InputRow | BadRow:
    try:
        mail = message_from_bytes(raw, _class=EmailMessage, policy=default)
        return InputRow(place=place, fields=_fields(mail))
    except Unreadable as error:
        return BadRow(place=place, why=error.why, fix=error.fix)
    except _BROKEN as error:
        reason = f"cannot be read as a mail ({type(error).__name__})"
        return BadRow(place=place, why=reason, fix="Skip such mails (--on_bad_row skip).")


def _fields(mail: EmailMessage) -> dict[str, str]:
    user = sender(mail)
    return {
        "text": written(mail),
        "subject": decoded(_first(mail, "Subject")),
        "user": user,
        "message_id": decoded(_first(mail, "Message-ID")),
        "date": decoded(_first(mail, "Date")),
    }


def _first(mail: EmailMessage, name: str) -> str:
    return next(iter(header(mail, name)), "")
