# SPDX-License-Identifier: Apache-2.0
"""Shamir's secret sharing: a secret in pieces, of which any ``needed`` give it back and fewer say nothing.

A polynomial of degree ``needed - 1`` over a prime field has the secret as its value at 0; the piece of number x is its
value at x (Shamir 1979, doi:10.1145/359168.359176).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reticent.core.errors import BadInput
from reticent.federated.secure.keyed_hash import keyed_hash

PRIME = 2**256 + 297
"""The smallest prime above 2^256, so that every 32 bytes are a secret."""
SECRET_BYTES = 32
PIECE_BYTES = 33


def split(secret: bytes, holders: Sequence[int], *, needed: int, key: bytes) -> dict[int, bytes]:
    """Pieces of a secret, one for each holder.

    Args:
        secret: 32 bytes.
        holders: their numbers, 0 or more, each once.
        needed: pieces that give the secret back.
        key: secret bytes that the other coefficients follow from; a key serves one secret.

    Returns:
        holder → 33 bytes.

    Raises:
        BadInput: more pieces needed than there are holders, a holder twice, a secret of another length.

    Examples:
        >>> pieces = split(bytes(range(32)), [0, 1, 2], needed=2, key=b"k" * 32)
        >>> joined({number: pieces[number] for number in (2, 0)}) == bytes(range(32))
        True
    """
    if len(secret) != SECRET_BYTES:
        raise BadInput(f"a secret of {len(secret)} bytes", f"must have {SECRET_BYTES}", "Hash it first.")
    if len(set(holders)) != len(holders) or min(holders, default=0) < 0:
        raise BadInput("holders", "must be different numbers from 0 on", "Name each client once.")
    if not 1 <= needed <= len(holders):
        raise BadInput(
            f"needed={needed}", f"must be in 1 … {len(holders)}, the number of holders", "Lower it, or add neighbours."
        )
    coefficients = [int.from_bytes(secret, "big")]
    # 64 bytes each: their remainder is uniform but for one part in 2^255.
    coefficients += [int.from_bytes(keyed_hash(key, "share", i, size=64), "big") % PRIME for i in range(1, needed)]
    return {holder: _value(coefficients, holder + 1).to_bytes(PIECE_BYTES, "big") for holder in holders}


def joined(pieces: Mapping[int, bytes]) -> bytes:
    """The secret behind pieces, by Lagrange's formula at 0. From too few, or changed ones, it is some other number.

    Args:
        pieces: holder → piece, exactly as many as are needed.

    Returns:
        32 bytes.

    Raises:
        BadInput: no pieces, one of another length, or pieces that belong to no secret of 32 bytes.
    """
    if not pieces or any(len(piece) != PIECE_BYTES for piece in pieces.values()):
        raise BadInput(f"{len(pieces)} pieces", f"must be some, of {PIECE_BYTES} bytes each", "Ask the holders again.")
    points = {holder + 1: int.from_bytes(piece, "big") for holder, piece in pieces.items()}
    secret = 0
    for x, value in points.items():
        above = below = 1
        for other in points:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        secret += value * above * pow(below, -1, PRIME)
    secret %= PRIME
    if secret >> (8 * SECRET_BYTES):
        raise BadInput(
            f"{len(pieces)} pieces", "belong to no secret", "One of them was changed; ask the holders again."
        )
    return secret.to_bytes(SECRET_BYTES, "big")


def _value(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value
