# SPDX-License-Identifier: Apache-2.0
"""Key agreement and sealed envelopes, as the protocol needs them; X25519 and ChaCha20-Poly1305 from `cryptography`.

X25519 is RFC 7748, the envelope RFC 8439. The library is part of the extra ``federated`` and imported when it is
needed. The protocol knows only the two methods of `Ciphers`, so a test can run it with a slow twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from reticent.core.errors import BadInput

NONCE = bytes(12)
"""Always the same: each key seals one text, which it follows from (`SecureClient`)."""


class RefusedMessage(ValueError):
    """A message that may not be taken. The text says why, and holds nothing of its contents."""


class Ciphers(Protocol):
    """Key agreement and authenticated encryption."""

    def public(self, secret: bytes) -> bytes:
        """The public key, 32 bytes, of a secret one of 32 bytes."""
        ...

    def agreed(self, secret: bytes, public: bytes) -> bytes:
        """32 bytes that only the owners of both secrets can compute.

        Raises:
            RefusedMessage: a public key that gives the same for everybody.
        """
        ...

    def sealed(self, key: bytes, text: bytes, about: bytes) -> bytes:
        """``text``, encrypted, and bound to ``about``. A key must seal one text only."""
        ...

    def opened(self, key: bytes, envelope: bytes, about: bytes) -> bytes:
        """The text of an envelope.

        Raises:
            RefusedMessage: another key, another ``about``, or a changed envelope.
        """
        ...


@dataclass(frozen=True)
class LibraryCiphers:
    """`Ciphers` by the package `cryptography`.

    Raises:
        BadInput: the package is not installed.
    """

    def __post_init__(self) -> None:
        _library()

    def public(self, secret: bytes) -> bytes:
        """See `Ciphers`."""
        x25519, _, _ = _library()
        key: bytes = x25519.X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        return key

    def agreed(self, secret: bytes, public: bytes) -> bytes:
        """See `Ciphers`."""
        x25519, _, _ = _library()
        try:
            other = x25519.X25519PublicKey.from_public_bytes(public)
            both: bytes = x25519.X25519PrivateKey.from_private_bytes(secret).exchange(other)
        except ValueError as error:
            raise RefusedMessage("a public key that agrees with nobody") from error
        return both

    def sealed(self, key: bytes, text: bytes, about: bytes) -> bytes:
        """See `Ciphers`."""
        _, aead, _ = _library()
        envelope: bytes = aead(key).encrypt(NONCE, text, about)
        return envelope

    def opened(self, key: bytes, envelope: bytes, about: bytes) -> bytes:
        """See `Ciphers`."""
        _, aead, invalid = _library()
        try:
            text: bytes = aead(key).decrypt(NONCE, envelope, about)
        except invalid as error:
            raise RefusedMessage("an envelope that was changed, or is for another client or session") from error
        return text


def _library() -> tuple[Any, Any, Any]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.asymmetric import x25519
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    except ImportError as error:
        raise BadInput(
            "secure aggregation", "needs the package cryptography", "Install it: pip install 'reticent[federated]'."
        ) from error
    return x25519, ChaCha20Poly1305, InvalidTag
