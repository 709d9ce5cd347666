# SPDX-License-Identifier: Apache-2.0
"""Digests that bind a client to the pieces that it deals, so that wrong ones are found, and by whose fault.

A client gives them to the server with its envelopes. A holder compares what it finds in an envelope, and the server
what a holder reveals. Pieces are uniform numbers of 256 bits, so their digests tell nothing of them.
"""

from __future__ import annotations

import hashlib

from reticent.federated.secure.keyed_hash import keyed_hash
from reticent.federated.secure.shamir import PIECE_BYTES

DIGEST_BYTES = 32
SEED, MASKING_KEY = 0, 1
"""Places of a client's two secrets, in envelopes and in digests."""


def piece_digest(piece: bytes, session: bytes, *, dealer: int, holder: int, secret: int) -> bytes:
    """32 bytes for one piece.

    Args:
        piece: of a secret.
        session: of the plan.
        dealer: the client whose secret it is of.
        holder: who it is for.
        secret: `SEED` or `MASKING_KEY`.

    Examples:
        >>> one, other = (piece_digest(b"p" * 33, bytes(16), dealer=0, holder=1, secret=which) for which in (0, 1))
        >>> one == other
        False
    """
    return keyed_hash(hashlib.sha256(session).digest(), "piece", dealer, holder, secret, piece, size=DIGEST_BYTES)


def digests_of(pieces: bytes, session: bytes, *, dealer: int, holder: int) -> bytes:
    """64 bytes for what is in an envelope: a piece of the seed, and one of the masking key behind it."""
    parts = (pieces[:PIECE_BYTES], pieces[PIECE_BYTES:])
    return b"".join(
        piece_digest(part, session, dealer=dealer, holder=holder, secret=secret) for secret, part in enumerate(parts)
    )


def fits(piece: bytes, digests: bytes, session: bytes, *, dealer: int, holder: int, secret: int) -> bool:
    """Is this the piece of that secret that the dealer gave these digests for?"""
    given = digests[secret * DIGEST_BYTES : (secret + 1) * DIGEST_BYTES]
    return given == piece_digest(piece, session, dealer=dealer, holder=holder, secret=secret)
