# SPDX-License-Identifier: Apache-2.0
"""The text that bytes of a mail stand for. Mails often declare a wrong charset, or a name that only few know."""

from __future__ import annotations

import codecs
import re

from reticent.data.mail.unreadable import Unreadable

_WIDER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "iso2022_jp": "iso2022_jp_ext",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
}
"""Charset that programs declare → charset that they write, a superset."""
_OTHER_NAMES = {
    "unicode-1-1-utf-7": "utf-7",
    "x-gbk": "gb18030",
    "x-sjis": "cp932",
    "x-mac-roman": "mac-roman",
    "x-big5": "big5hkscs",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "iso-8859-6-i": "iso-8859-6",
    "ks_c_5601-1987": "cp949",
    "windows-874": "cp874",
    "cp-850": "cp850",
}
_META = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
WESTERN = 0.25
"""A text in a Latin alphabet has fewer letters than this beyond ASCII; with more, no charset is guessed."""


def decode(raw: bytes, declared: str | None, *, is_html: bool = False) -> str:
    """The text that ``raw`` stands for.

    The declared charset is tried first (of HTML that declares none, the one that it names itself), then UTF-8. What is
    neither is read as Windows-1252 if it looks like a Latin alphabet.

    Args:
        raw: transfer encodings undone.
        declared: what the part says; None where it says nothing.
        is_html: look for a charset in it.

    Raises:
        Unreadable: the bytes are of none of these.
    """
    named = declared
    if is_html and declared is None and (meta := _META.search(raw[:4096])) is not None:
        named = meta[1].decode("ascii", "replace")
    for charset in (
        ("utf-8-sig", *_candidates(named)) if _is_utf8_at_heart(named, raw) else (*_candidates(named), "utf-8-sig")
    ):
        try:
            return raw.decode(charset)
        except (LookupError, UnicodeDecodeError, ValueError):
            continue
    beyond = sum(byte > 127 for byte in raw)
    if beyond <= WESTERN * len(raw):
        return raw.decode("cp1252", errors="replace")
    declaration = "no charset" if declared is None else "a charset that is not the one"
    raise Unreadable(f"declares {declaration} that its text is in, and which it is cannot be told")


def _is_utf8_at_heart(named: str | None, raw: bytes) -> bool:
    """True if the bytes are to be tried as UTF-8 first: what is declared cannot be true of bytes beyond ASCII."""
    return named is None or (_known(named) == "ascii" and not raw.isascii()) or raw.startswith(codecs.BOM_UTF8)


def _candidates(named: str | None) -> tuple[str, ...]:
    if named is None:
        return ()
    codec = _known(named)
    if codec is None or codec == "ascii":
        return ()
    return (_WIDER.get(codec, codec), codec)


def _known(named: str) -> str | None:
    """Python's name of a charset; None where it knows none."""
    named = named.strip(" '\"").lower()
    named = _OTHER_NAMES.get(named, named)
    try:
        codec = codecs.lookup(named)
    except (LookupError, ValueError):
        return None
    return codec.name if codec._is_text_encoding else None
