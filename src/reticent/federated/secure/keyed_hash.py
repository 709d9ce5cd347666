# SPDX-License-Identifier: Apache-2.0
"""Bytes that follow from a secret and a purpose: keys for each thing, and the masks themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput

Vector = npt.NDArray[np.uint32]
SECRET = 32
_AT_ONCE = 1 << 20
"""Words of a mask that are in memory at a time."""


def keyed_hash(key: bytes, purpose: str, *parts: int | bytes, size: int = 32) -> bytes:
    """``size`` bytes of SHAKE-256 of the key, what they are for and for which thing; each part with its length, so that
    no two things are hashed as the same bytes.

    Examples:
        >>> keyed_hash(b"k" * 32, "seed", 1) == keyed_hash(b"k" * 32, "seed", b"1")
        False
    """
    if len(key) != SECRET:
        raise BadInput(f"a key of {len(key)} bytes", f"must have {SECRET}", "Take secrets.token_bytes(32).")
    message = [key, purpose.encode()]
    for part in parts:
        text = b"n" + str(part).encode() if isinstance(part, int) else b"b" + part
        message.append(len(text).to_bytes(8, "big") + text)
    return hashlib.shake_256(b"\0".join(message)).digest(size)


def add_mask(vector: Vector, seed: bytes, *, sign: int) -> None:
    """Add the mask of a seed to a vector in place, or take it off with ``sign=-1``, modulo 2^32.

    A mask is uniform, so its sum with any vector is; the last bits are uniform modulo any smaller power of two too.
    """
    for start, words in _mask(seed, len(vector)):
        part = vector[start : start + len(words)]
        if sign > 0:
            part += words
        else:
            part -= words


def _mask(seed: bytes, count: int) -> Iterator[tuple[int, Vector]]:
    for chunk, start in enumerate(range(0, count, _AT_ONCE)):
        size = min(_AT_ONCE, count - start)
        yield start, np.frombuffer(keyed_hash(seed, "mask", chunk, size=4 * size), dtype="<u4").astype(np.uint32)
