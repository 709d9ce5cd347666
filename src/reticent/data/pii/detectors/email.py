# SPDX-License-Identifier: Apache-2.0
"""E-mail addresses, plain and written out in brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import Evidence, detector

_PLAIN = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}+@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_SPELT = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}+\s?[\[({<]\s?at\s?[\])}>]\s?[\w-]{1,63}+(?:(?:\.|\s?[\[({<]\s?dot\s?[\])}>]\s?)[\w-]{1,63}+){1,5}",
    re.IGNORECASE,
)


@detector("email", kinds=("EMAIL",), evidence=Evidence.FORM)
def email(text: str) -> Iterator[Span]:
    """E-mail addresses, also as ``name (at) host (dot) org``."""
    for match in _PLAIN.finditer(text) if "@" in text else ():
        local = match[0].split("@")[0]
        start = match.start() + len(local) - len(local.lstrip(".!#$%&'*+/=?^`{|}~-"))
        if text[start] != "@":
            yield Span(start=start, end=match.end(), kind="EMAIL")
    for match in _SPELT.finditer(text):
        yield Span(start=match.start(), end=match.end(), kind="EMAIL")
