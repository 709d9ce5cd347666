# SPDX-License-Identifier: Apache-2.0
"""Addresses of Bitcoin (with their checksum) and Ethereum wallets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum import bitcoin

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector

_BITCOIN = re.compile(
    r"(?<!\w)(?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|bc1[02-9ac-hj-np-z]{11,71}|BC1[02-9AC-HJ-NP-Z]{11,71})(?!\w)"
)
_ETHEREUM = re.compile(r"(?<!\w)0x[0-9a-fA-F]{40}(?!\w)")


@detector(
    "crypto_wallet",
    kinds=("CRYPTO_WALLET",),
    evidence=SpanEvidence.CHECKED,
    reads="numbers",
    example=("send to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
)
def crypto_wallet(text: str) -> Iterator[Span]:
    """Wallets of Bitcoin and Ethereum."""
    for match in _BITCOIN.finditer(text):
        if bitcoin.is_valid(match[0]):
            yield Span(start=match.start(), end=match.end(), kind="CRYPTO_WALLET")
    for match in _ETHEREUM.finditer(text):
        yield Span(start=match.start(), end=match.end(), kind="CRYPTO_WALLET")
