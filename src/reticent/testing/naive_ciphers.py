# SPDX-License-Identifier: Apache-2.0
"""A slow twin of the ciphers, so that secure rounds are tested without the package `cryptography` too. For tests only:
its time tells secrets."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

from reticent.federated.secure.ciphers import RefusedMessage

FIELD = 2**255 - 19
SMALL = 2**127 - 1


class NaiveCiphers:
    """X25519 as RFC 7748 reads, and a keystream of SHAKE-256 with a tag of HMAC."""

    def public(self, secret: bytes) -> bytes:
        """See `Ciphers`."""
        return ladder(secret, (9).to_bytes(32, "little"))

    def agreed(self, secret: bytes, public: bytes) -> bytes:
        """See `Ciphers`."""
        both = ladder(secret, public)
        if both == bytes(32):
            raise RefusedMessage("a public key that agrees with nobody")
        return both

    def sealed(self, key: bytes, text: bytes, about: bytes) -> bytes:
        """See `Ciphers`."""
        body = bytes(x ^ y for x, y in zip(text, hashlib.shake_256(key + b"stream").digest(len(text)), strict=True))
        return body + hmac.digest(key, about + body, "sha256")

    def opened(self, key: bytes, envelope: bytes, about: bytes) -> bytes:
        """See `Ciphers`."""
        body, tag = envelope[:-32], envelope[-32:]
        if not hmac.compare_digest(hmac.digest(key, about + body, "sha256"), tag):
            raise RefusedMessage("an envelope that was changed, or is for another client or session")
        return bytes(x ^ y for x, y in zip(body, hashlib.shake_256(key + b"stream").digest(len(body)), strict=True))


@lru_cache(maxsize=4096)
def ladder(secret: bytes, point: bytes) -> bytes:
    """Montgomery's ladder over the integers modulo 2^255 - 19 (RFC 7748, section 5)."""
    scalar = bytearray(secret)
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    k = int.from_bytes(scalar, "little")
    u = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in range(254, -1, -1):
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb = a * a % FIELD, b * b % FIELD
        cross, other = d * a % FIELD, c * b % FIELD
        e = aa - bb
        moved = (
            aa * bb % FIELD,
            e * (aa + 121665 * e) % FIELD,
            (cross + other) ** 2 % FIELD,
            u * (cross - other) ** 2 % FIELD,
        )
        x2, z2, x3, z3 = moved
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, -1, FIELD) % FIELD if z2 % FIELD else 0).to_bytes(32, "little")


class QuickCiphers(NaiveCiphers):
    """The same with a key agreement in a group that is too small to hide anything: for tests of whole federations."""

    def public(self, secret: bytes) -> bytes:
        """See `Ciphers`."""
        return pow(5, int.from_bytes(secret, "big") % SMALL, SMALL).to_bytes(32, "big")

    def agreed(self, secret: bytes, public: bytes) -> bytes:
        """See `Ciphers`."""
        number = int.from_bytes(public, "big") % SMALL
        if number < 2:
            raise RefusedMessage("a public key that agrees with nobody")
        return pow(number, int.from_bytes(secret, "big") % SMALL, SMALL).to_bytes(32, "big")
