# SPDX-License-Identifier: Apache-2.0
"""Coins that depend on nothing but the seed and the thing they are thrown for."""

from __future__ import annotations

import hashlib


def uniform(seed: int, purpose: str, thing: str) -> float:
    """A number in [0, 1), the same on every machine and whatever else is in the data.

    A keyed BLAKE2b hash stands in for a random number: numbers of different things, or of one thing for different
    purposes, are independent for all that statistics can tell, and adding a record never moves another one's.

    >>> uniform(0, "member", "r000001") == uniform(0, "member", "r000001")
    True
    """
    message = f"{purpose}\0{thing}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(message, key=str(seed).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
