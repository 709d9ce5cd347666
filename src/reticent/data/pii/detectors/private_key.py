# SPDX-License-Identifier: Apache-2.0
"""Private keys in PEM or OpenPGP armour, also where the end is cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector

_MARK = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(r"[A-Za-z0-9+/=:,.\\\s-]*+")


@detector(
    "private_key",
    kinds=("PRIVATE_KEY",),
    evidence=SpanEvidence.CHECKED,
    reads="even",
    example=(
        "-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----!",
        "-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----",
    ),
)
def private_key(text: str) -> Iterator[Span]:
    """From the first mark to the end mark; without one, as far as the text looks like a key."""
    begin: re.Match[str] | None = None
    for mark in _MARK.finditer(text):
        if mark[1] == "END":
            if begin is not None:
                yield Span(start=begin.start(), end=mark.end(), kind="PRIVATE_KEY")
            begin = None
        elif begin is None:
            begin = mark
    if begin is not None:
        body = _BODY.match(text, begin.end())
        yield Span(start=begin.start(), end=body.end() if body else begin.end(), kind="PRIVATE_KEY")
