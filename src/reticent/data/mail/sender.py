# SPDX-License-Identifier: Apache-2.0
"""The writer of a mail: the address in its header, found before anything in it is decoded.

A name may hold anything once it is decoded: commas, angle brackets, another address. Parsed after decoding, ``Müller,
Anna`` and ``Müller, Ben`` are both "müller", and a sender can name himself so that he is taken for somebody else.
The parsers of Python's ``email`` are not asked: they take ``boss@firm <me@home>`` for the boss, where mail programs
show and answer ``me@home``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import EmailMessage

from reticent.data.mail.unreadable import Unreadable

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|<[^<>]*>|[,;:]|[^",;:<>]+|.', re.DOTALL)
_ADDRESS = re.compile(r'(?P<name>"(?:[^"\\]|\\.)+"|[^\s@"<>(),;:]+)@(?P<domain>\[[^\s\[\]]+\]|[^\s@<>(),;:"\[\]]+)')
_SPELT = re.compile(r"(\S+) at (\S+\.\S+)")
"""As archives of mailing lists write addresses."""
_VIA = re.compile(r"\bvia\b", re.IGNORECASE)
_LIST = ("List-Id", "List-Post", "X-Mailing-List", "X-Google-Group-Id")
_WRITER = ("X-Original-From", "X-Original-Sender", "Reply-To")
_LONGEST = 10_000
"""Characters of a header field that are read."""
_PLAIN_NAME = re.compile(r'"([^\s"\\@(),:;<>\[\]]+)"')


def sender(mail: EmailMessage) -> str:
    """The address of who wrote ``mail``, in lower case.

    ``From`` names the writer; of several there ``Sender`` names who sent it. Where a mailing list put its own address
    there ("Anna via Desk"), the header fields in which lists keep the writer's are read.

    Raises:
        Unreadable: no address, or several and none of them is the sender's.
    """
    values = header(mail, "From")
    senders = {address for value in values for address in addresses(value)}
    if not senders and not "".join(values).strip():
        senders = {address for value in header(mail, "Sender") for address in addresses(value)}
    if len(senders) > 1:
        sent = {address for value in header(mail, "Sender") for address in addresses(value)} & senders
        if len(sent) != 1:
            raise Unreadable(f"names {len(senders)} writers in From, and its text is of more than one person")
        senders = sent
    if not senders:
        raise Unreadable("has no address of a sender in From")
    (address,) = senders
    if any(header(mail, name) for name in _LIST) and any(_VIA.search(decoded(value)) for value in values):
        return _behind_list(mail, address)
    return address


def _behind_list(mail: EmailMessage, address: str) -> str:
    lists = {
        listed for name in ("List-Post", "List-Id", "To", "Cc") for v in header(mail, name) for listed in addresses(v)
    }
    for name in _WRITER:
        others = {listed for value in header(mail, name) for listed in addresses(value)} - {address} - lists
        if len(others) == 1:
            return others.pop()
    raise Unreadable("was sent on by a mailing list under its own address, and its writer's is not to be found")


def addresses(value: str) -> tuple[str, ...]:
    """The addresses in the value of a header field, as `normal` writes them; none twice.

    >>> addresses('=?utf-8?Q?M=C3=BCller=2C_Anna?= <A.Mueller@example.org>'), addresses("boss@firm <me@home.example>")
    (('a.mueller@example.org',), ('me@home.example',))
    >>> addresses("Roe, Anna <a@x.example>, (the other) b@x.example"), addresses("Anna Roe")
    (('a@x.example', 'b@x.example'), ())
    """
    value = value[:_LONGEST]
    unique = dict.fromkeys(_mailboxes(_without_comments(value)))
    if not unique and "=?" in value:  # all of it was encoded, which a few broken programs do
        unique = dict.fromkeys(_mailboxes(_without_comments(decoded(value))))
    return tuple(unique)


def _mailboxes(value: str) -> Iterator[str]:
    outside, inside = "", ""
    for piece in [*_TOKEN.findall(value), ","]:
        if piece in (",", ";", ":"):
            candidates = inside or _bare(outside)
            if candidates:
                yield candidates
            outside, inside = "", ""
        elif piece.startswith("<") and piece.endswith(">"):
            inside = _normal_or_none(piece[1:-1].rpartition(":")[2]) or inside
        else:
            outside += " " if piece in "<>" else piece


def _bare(text: str) -> str:
    """The address in a text without angle brackets."""
    spelt = _SPELT.fullmatch(text.strip())
    if spelt is not None and "@" not in text:
        return _normal_or_none("@".join(spelt.groups()))
    return next(
        (address for word in reversed(re.findall(r'"[^"]*"@\S+|\S+', text)) if (address := _normal_or_none(word))), ""
    )


def _normal_or_none(text: str) -> str:
    match = _ADDRESS.fullmatch(text.strip())
    return "" if match is None else normal(match["name"], match["domain"])


def normal(name: str, domain: str) -> str:
    """One spelling of an address: lower case, no needless quotes, a domain in its letters and not as ``xn--``.

    >>> normal('"Anna"', "XN--MNCHEN-3YA.example.")
    'anna@münchen.example'
    """
    plain = _PLAIN_NAME.fullmatch(name)
    labels = domain.rstrip(".").lower().split(".")
    return f"{(plain[1] if plain else name).lower()}@{'.'.join(map(_label, labels))}"


def _label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label.encode("ascii").decode("idna")
    except UnicodeError:
        return label


def _without_comments(value: str) -> str:
    """``value`` without what stands in parentheses outside of quotes."""
    depth, quoted, plain = 0, False, ""
    closed = value.count('"') % 2 == 0
    for place, character in enumerate(value):
        escaped = place > 0 and value[place - 1] == "\\"
        if character == '"' and not depth and not escaped and closed:
            quoted = not quoted
        if not quoted and not escaped and character in "()":
            depth = max(0, depth + (1 if character == "(" else -1))
            plain += " "
        elif not depth and not (character == '"' and not closed):
            plain += character
    return plain if not depth else value.replace("(", " ").replace(")", " ")


def header(mail: EmailMessage, name: str) -> list[str]:
    """The values of a header field as they stand in the mail, on one line each."""
    return [
        " ".join(str(value).split())[:_LONGEST]
        for field, value in mail.raw_items()
        if field.lower() == name.lower() and str(value).strip()
    ]


def decoded(value: str) -> str:
    """The value of a header field with its encoded words read, and with raw bytes read as UTF-8 or Windows-1252."""
    value = readable(value)
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return value


def readable(value: str) -> str:
    """``value`` without the stand-ins that Python puts for bytes that are not ASCII."""
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")
