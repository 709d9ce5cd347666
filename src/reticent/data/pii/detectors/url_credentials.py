# SPDX-License-Identifier: Apache-2.0
"""Addresses that carry a password or a token, connection strings of databases among them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector

_URL = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,40}+://[^\s\"'<>`]++")
_USER = re.compile(r"://[^/?#:@]{0,200}+:[^/?#]{1,300}@[^@]")
_TOKEN = re.compile(
    r"[?&;#](?:[a-z_-]{0,20}(?:token|secret|passw(?:or)?d|pwd)|(?:api|access|auth)[_-]?key|sig|signature|key)=[^&\s]{6}",
    re.IGNORECASE,
)


@detector(
    "url_credentials",
    kinds=("URL_CREDENTIALS",),
    evidence=SpanEvidence.CHECKED,
    reads="even",
    example=("use postgres://bob:s3cret@db.example.com/app.", "postgres://bob:s3cret@db.example.com/app"),
)
def url_credentials(text: str) -> Iterator[Span]:
    """The whole address, since host and database often tell as much as the password."""
    for match in _URL.finditer(text) if "://" in text else ():
        address = match[0].rstrip(".,;:!?)]}")
        head = address[:1000]
        if _USER.search(head) or _TOKEN.search(address):
            yield Span(start=match.start(), end=match.start() + len(address), kind="URL_CREDENTIALS")
