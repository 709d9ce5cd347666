# SPDX-License-Identifier: Apache-2.0
"""IP addresses of both versions, as the standard library reads them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context import cue, near
from reticent.data.pii.detector import Evidence, detector

_V4 = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])")
_V6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{3,45}+(?:[0-9.]{7,15}+)?(?![\w:])")
_RELEASE = cue("version", "release", "firmware", "build", "v")


@detector("ip_address", kinds=("IP_ADDRESS",), evidence=Evidence.CHECKED)
def ip_address(text: str) -> Iterator[Span]:
    """IP addresses of hosts; not the loopback and unspecified ones, nor numbers of software releases."""
    for match in _V4.finditer(text):
        if _of_host(match[0]) and not near(text, match.start(), _RELEASE, reach=12):
            yield Span(start=match.start(), end=match.end(), kind="IP_ADDRESS")
    for match in _V6.finditer(text):
        address = match[0].rstrip(".")
        address = address[:-1] if address.endswith(":") and not address.endswith("::") else address
        if address.count(":") >= 2 and _of_host(address):
            yield Span(start=match.start(), end=match.start() + len(address), kind="IP_ADDRESS")


def _of_host(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified)
