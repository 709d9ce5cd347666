# SPDX-License-Identifier: Apache-2.0
"""A stream of secret random words, the same for the same key and purpose: what exact samplers draw from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.federated.secure.keyed_hash import keyed_hash

_AT_ONCE = 1 << 14


class RandomBits:
    """Uniform words of 64 bits, each given once.

    Args:
        key: 32 secret bytes; whoever has them can subtract the noise.
        purpose: what the words are for.
        place: numbers that tell one thing of that purpose from another, such as the round.

    Examples:
        >>> bits = RandomBits(b"k" * 32, "noise", 3)
        >>> int(bits.below(1, 4).sum()), bool((bits.below(10, 1000) < 10).all())
        (0, True)
    """

    def __init__(self, key: bytes, purpose: str, *place: int) -> None:
        self._key, self._purpose, self._place = key, purpose, place
        self._chunk = 0
        self._left = np.empty(0, dtype=np.uint64)

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """``[count]`` words."""
        parts, missing = [], count
        while missing > 0:
            if not len(self._left):
                size = max(_AT_ONCE, min(missing, 64 * _AT_ONCE))
                data = keyed_hash(self._key, self._purpose, *self._place, self._chunk, size=8 * size)
                self._left, self._chunk = np.frombuffer(data, dtype="<u8"), self._chunk + 1
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)

    def below(self, bound: int, count: int) -> npt.NDArray[np.int64]:
        """``[count]`` whole numbers in ``[0, bound)``, exactly uniform: words that are too large are drawn again."""
        shift = np.uint64(64 - max((bound - 1).bit_length(), 1))
        out = np.zeros(count, dtype=np.int64)
        if bound == 1:
            return out
        missing = np.arange(count)
        while len(missing):
            drawn = self.words(len(missing)) >> shift
            good = drawn < bound
            out[missing[good]] = drawn[good].astype(np.int64)
            missing = missing[~good]
        return out

    def uniforms(self, count: int) -> npt.NDArray[np.float64]:
        """``[count]`` multiples of 2^-53 in [0, 1)."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
