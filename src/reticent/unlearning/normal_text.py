# SPDX-License-Identifier: Apache-2.0
"""The form in which texts are held against each other: the same words and signs, however they are laid out."""

from __future__ import annotations

import re
import unicodedata

_QUOTATION = re.compile(r"^[ \t]*(?:>[ \t]?)+", flags=re.MULTILINE)
"""Marks that mail programs put before each line of a quoted text."""


def normal_text(text: str) -> str:
    """``text`` with composed letters, without marks of quotation, and with one blank for any white space.

    Letters keep their case, and signs stay: two texts of one form differ in nothing that is read.

    >>> normal_text("Dear Ana,\\r\\n\\tsee  you") == normal_text("> Dear Ana,\\n> > see you")
    True
    """
    plain = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
    return " ".join(_QUOTATION.sub("", unicodedata.normalize("NFC", plain)).split())
