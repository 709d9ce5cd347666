# SPDX-License-Identifier: Apache-2.0
"""Texts and numbers of pickles, decoded as an unpickler does; what is too long to be a name is unknown."""

from __future__ import annotations

from typing import Any

from reticent.scan.files.opcodes import Unreadable
from reticent.scan.files.pickle_values import UNKNOWN

MOST_TEXT = 4096
"""Characters of a string that are kept; names are shorter."""


def text_of(raw: Any) -> Any:
    if len(raw) > MOST_TEXT:
        return UNKNOWN
    try:
        return bytes(raw).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return UNKNOWN


def python_2_text(raw: Any) -> Any:
    if len(raw) > MOST_TEXT:
        return UNKNOWN
    try:
        return bytes(raw).decode("ascii")
    except UnicodeDecodeError:
        return UNKNOWN


def quoted_text(raw: bytes) -> Any:
    """A STRING line: quotes and escapes as Python 2 wrote them."""
    text = raw.strip()
    if len(text) >= 2 and text[:1] == text[-1:] and text[:1] in (b"'", b'"'):
        text = text[1:-1]
    try:
        return python_2_text(text.decode("unicode_escape").encode("latin-1"))
    except UnicodeError:
        return UNKNOWN


def escaped_text(raw: bytes) -> Any:
    """A UNICODE line."""
    try:
        return raw.decode("raw_unicode_escape") if len(raw) <= MOST_TEXT else UNKNOWN
    except UnicodeDecodeError:
        return UNKNOWN


def whole_number(raw: Any) -> Any:
    try:
        return int(bytes(raw).strip().rstrip(b"L")) if len(raw) <= 64 else UNKNOWN
    except ValueError:
        return UNKNOWN


def long_number(raw: Any) -> Any:
    return int.from_bytes(raw, "little", signed=True) if len(raw) <= 64 else UNKNOWN


def line_key(raw: bytes) -> int:
    try:
        return int(raw)
    except ValueError as error:
        raise Unreadable("a place of the memo is no number") from error
