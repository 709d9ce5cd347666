# SPDX-License-Identifier: Apache-2.0
"""Hardware addresses of network cards."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector

_MAC = re.compile(
    r"(?<![\w:.-])(?:[0-9A-F]{2}([:-])[0-9A-F]{2}(?:\1[0-9A-F]{2}){4}|[0-9A-F]{4}\.[0-9A-F]{4}\.[0-9A-F]{4})(?![\w:-])",
    re.IGNORECASE,
)


@detector(
    "mac_address",
    kinds=("MAC_ADDRESS",),
    evidence=SpanEvidence.FORM,
    reads="numbers",
    example=("nic 00:1A:2b:3C:4D:5E", "00:1A:2b:3C:4D:5E"),
)
def mac_address(text: str) -> Iterator[Span]:
    """Six bytes with colons or hyphens, or three groups with points."""
    for match in _MAC.finditer(text):
        if len(set(match[0].upper()) - set(":-.")) > 1:
            yield Span(start=match.start(), end=match.end(), kind="MAC_ADDRESS")
