# SPDX-License-Identifier: Apache-2.0
"""IP addresses of both versions, as the standard library reads them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.context_words import cue, near
from reticent.data.pii.detector import SpanEvidence, detector

_V4 = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])")
_V6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{3,45}+(?:[0-9.]{7,15}+)?(?![\w:])")
_RELEASE = cue(
    "version", "release", "firmware", "build", "v", "sections?", "sec\\.?", "chapters?", "clauses?", "paragraphs?",
    "articles?", "figures?", "tables?", "items?", "steps?", "annex", "appendix",
)  # fmt: skip
_HOST = cue(
    "ip", "ipv4", "ips", "address(?:es)?", "hosts?", "servers?", "dns", "resolvers?", "name ?servers?", "gateway",
    "router", "ping(?:ed)?", "peers?", "proxy", "vpn", "log(?:ged)? in", "from",
)  # fmt: skip


@detector(
    "ip_address",
    kinds=("IP_ADDRESS",),
    evidence=SpanEvidence.CHECKED,
    reads="numbers",
    example=("from 203.0.113.9.", "203.0.113.9"),
)
def ip_address(text: str) -> Iterator[Span]:
    """IP addresses of hosts.

    Not the loopback and unspecified ones, nor numbers of software releases or sections, nor words such as ``dead::``.
    """
    for match in _V4.finditer(text):
        if not _of_host(match[0]) or near(text, match.start(), _RELEASE, reach=12):
            continue
        if len(match[0]) > len("1.1.1.1") or near(text, match.start(), _HOST, reach=25):
            yield Span(start=match.start(), end=match.end(), kind="IP_ADDRESS")
    for match in _V6.finditer(text):
        address = match[0].rstrip(".")
        address = address[:-1] if address.endswith(":") and not address.endswith("::") else address
        if address.count(":") >= 2 and _of_host(address) and not _of_words(address):
            yield Span(start=match.start(), end=match.start() + len(address), kind="IP_ADDRESS")


def _of_host(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (ip.is_loopback or ip.is_unspecified)


def _of_words(address: str) -> bool:
    """True where a shortened address may be a name in a program (``dead::beef``, ``ad::``): no digit in it, or one or
    two groups that begin as no address that is in use."""
    if "::" not in address:
        return False
    groups = [group for group in address.split(":") if group]
    digits = any(char.isdigit() for char in address)
    return not digits or (len(groups) < 3 and not re.match(r"[23][0-9a-f]{3}|f[cdef][0-9a-f]{2}|::|64:", address, re.I))
