# SPDX-License-Identifier: Apache-2.0
"""The text that the writer of a mail wrote: no attachments, no attached mails of others, no footers of lists."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage

from reticent.data.mail.charset import decode
from reticent.data.mail.html import html_to_text
from reticent.data.mail.unreadable import Unreadable

_RULE = re.compile(r"\s*[_=*#~-]{10,}\s*(?:\n|\Z)")
_ADDED = re.compile(
    r"mailing list|unsubscribe|you (?:received|are receiving) this (?:message|e-?mail)|google groups|confidential|"
    r"disclaimer|intended (?:only|solely) for|virus|scanned (?:by|for)|external (?:e-?mail|sender)|originated outside",
    re.IGNORECASE,
)
"""Texts that lists, scanners and firms put into a part of its own; read only in parts beside the text."""
_LIST_FOOTER = re.compile(
    r"(?:^|\n)(?:_{20,}[ \t]*\n[^\n]*mailing list[^\n]*(?:\n[^\n]*){0,6}"
    r"|-- ?\n[^\n]*you received this message because you are subscribed to[^\n]*(?:\n[^\n]*){0,12})\Z",
    re.IGNORECASE,
)
"""The same at the end of the text itself, where it says what it is."""
_STUB = re.compile(r"\bhtml\b", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A piece of text in a mail."""

    text: str
    is_html: bool


def written(mail: EmailMessage) -> str:
    """The text that the writer of ``mail`` wrote.

    Of two versions of the text the plain one is taken, unless it only says that there is another. HTML is read as
    text. What a list or a scanner added is left out where it shows itself as such; what the writer quotes of others
    stays, since where a quotation begins and ends cannot be told for certain.

    Raises:
        Unreadable: there is no such text, or it cannot be read.
    """
    parts = [part for part in _parts(mail, root=True) if part.text.strip()]
    if not parts:
        raise Unreadable(_nothing(mail))
    of_writer = [part for part in parts if not _is_added(part)] if len(parts) > 1 else parts
    text = _LIST_FOOTER.sub("", "\n".join(part.text for part in of_writer or parts))
    if not text.strip():
        raise Unreadable("holds nothing but what a mailing list added")
    if text.lstrip().startswith("-----BEGIN PGP MESSAGE-----"):
        raise Unreadable("is encrypted")
    return text


def _parts(part: EmailMessage, *, root: bool = False) -> Iterator[_Part]:
    """The texts that a person reads who opens the mail, in order."""
    kind = part.get_content_type()
    if kind.startswith("multipart/") and part.get_content_disposition() != "attachment":
        yield from _of_several(kind, part)
    elif kind in ("text/plain", "text/html") and not _is_attached(part, root):
        yield _read(part, is_html=kind == "text/html")


def _is_attached(part: EmailMessage, root: bool) -> bool:
    return part.get_content_disposition() == "attachment" or (not root and part.get_filename() is not None)


def _of_several(kind: str, part: EmailMessage) -> Iterator[_Part]:
    if not part.is_multipart():
        raise Unreadable("is broken: its parts are not where it says")
    if kind == "multipart/encrypted":
        raise Unreadable("is encrypted")
    within = [inner for inner in part.iter_parts() if isinstance(inner, EmailMessage)]
    if kind == "multipart/alternative":
        yield from _best([list(_parts(inner)) for inner in within])
    elif kind in ("multipart/related", "multipart/signed", "multipart/report"):
        yield from (
            text_part for inner in within[:1] for text_part in _parts(inner)
        )  # the others are pictures, a signature, a log
    elif kind != "multipart/digest":
        yield from (text_part for inner in within for text_part in _parts(inner))


def _best(versions: list[list[_Part]]) -> list[_Part]:
    """Of several versions of one text the first plain one, else the richest, which comes last."""
    with_text = [version for version in versions if any(part.text.strip() for part in version)]
    plain = [version for version in with_text if not any(part.is_html for part in version)]
    rich = [version for version in with_text if version not in plain]
    if plain and rich and _is_stub(plain[0], rich[-1]):
        return rich[-1]
    return next(iter(plain), rich[-1] if rich else [])


def _is_stub(plain: list[_Part], rich: list[_Part]) -> bool:
    """True if the plain version only says that there is another."""
    text, other = ("\n".join(part.text for part in version) for version in (plain, rich))
    return _STUB.search(text) is not None and _STUB.search(other) is None and len(text) < 300


def _is_added(part: _Part) -> bool:
    text = part.text.strip()
    return _RULE.match(text) is not None or (len(text) < 2000 and _ADDED.search(text) is not None)


def _nothing(mail: EmailMessage) -> str:
    kinds = sorted({part.get_content_type() for part in mail.walk() if part.get_content_maintype() != "multipart"})
    if "message/rfc822" in kinds or mail.get_content_type() == "multipart/digest":
        return "has no text of its writer's, only attached mails"
    if any(kind.startswith("application/") and "pkcs7-mime" in kind for kind in kinds):
        return "is encrypted or signed as a whole (S/MIME)"
    plain_kinds = [kind for kind in kinds if re.fullmatch(r"[a-z]+/[a-z0-9.+-]{1,60}", kind)]
    return f"has no text to read (it holds {', '.join(plain_kinds) or 'nothing'})"


# ---- one part ----------------------------------------------------------------------------------------------------


def _read(part: EmailMessage, *, is_html: bool) -> _Part:
    text = decode(_bytes(part), part.get_content_charset(), is_html=is_html).replace("\r\n", "\n").replace("\r", "\n")
    if is_html or text.lstrip()[:9].lower() in ("<!doctype", "<html><he", "<html><bo", "<html>"):
        return _Part(text=html_to_text(text), is_html=True)
    if str(part.get_param("format", "")).lower() == "flowed":
        text = unflowed(text, delete=str(part.get_param("delsp", "")).lower() == "yes")
    return _Part(text=text, is_html=False)


def _bytes(part: EmailMessage) -> bytes:
    """The bytes of a part, transfer encodings undone. Lists append lines of plain text even to Base64."""
    coding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if coding != "base64":
        raw = part.get_payload(decode=True)
        return raw if isinstance(raw, bytes) else b""
    coded: list[bytes] = []
    for line in str(part.get_payload()).encode("utf-8", "surrogateescape").split():
        if not _BASE64.fullmatch(line):
            break
        coded.append(line)
        if line.endswith(b"="):
            break
    whole = b"".join(coded)
    try:
        return binascii.a2b_base64(whole.rstrip(b"=") + b"=" * (-len(whole.rstrip(b"=")) % 4))
    except binascii.Error as error:
        raise Unreadable("says that its text is Base64, and it is not") from error


def unflowed(text: str, *, delete: bool = False) -> str:
    """Text of ``format=flowed`` (RFC 3676): lines that end in a blank go on in the next one, at one depth of quotation.

    >>> unflowed("a long \\nline\\n> said \\n> before\\n-- \\nBo")
    'a long line\\n> said before\\n-- \\nBo'

    Args:
        text: as it was sent.
        delete: ``delsp=yes``: the blank at the end of a line is no blank of the text.
    """
    lines: list[str] = []
    depth, goes_on = -1, False
    for line in text.split("\n"):
        bare = line.lstrip(">")
        quoted = len(line) - len(bare)
        bare = bare.removeprefix(" ")
        if goes_on and quoted == depth and bare != "-- ":
            lines[-1] += bare
        else:
            lines.append(f"{'>' * quoted}{' ' if quoted else ''}{bare}")
        goes_on = bare.endswith(" ") and bare != "-- "
        depth = quoted
        if goes_on and delete:
            lines[-1] = lines[-1][:-1]
    return "\n".join(lines)
