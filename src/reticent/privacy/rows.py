# SPDX-License-Identifier: Apache-2.0
"""Rows: what refusals need to know of records, and no more: how long each is, and a digest of its token ids.

Millions of records are compared by 16 bytes each, so their token ids are held once, where the data set has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 16
_DIGEST = np.dtype((np.void, DIGEST_BYTES))


def digest_of(ids: Sequence[int] | npt.NDArray[np.integer]) -> bytes:
    """BLAKE2b of the token ids as int64, 128 bits: that two of 10^9 different records have the same is a chance of
    10^-21, less than that of a fault in the memory."""
    return hashlib.blake2b(np.asarray(ids, dtype="<i8").tobytes(), digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True, kw_only=True, eq=False)
class RowDigests:
    """Records in their order.

    Args:
        length: ``[n]`` int64, tokens of each.
        digest: ``[n]`` 16 bytes each, ``digest_of`` its token ids.
    """

    length: npt.NDArray[np.int64]
    digest: npt.NDArray[np.void]

    def __len__(self) -> int:
        return len(self.length)

    @property
    def longest(self) -> int | None:
        """Tokens of the longest; None where there are no records."""
        return int(self.length.max()) if len(self) else None

    def copies(self) -> list[int]:
        """Positions of rows that repeat an earlier one, token for token; rising."""
        _, first = np.unique(self.digest, return_index=True)
        again = np.ones(len(self), dtype=np.bool_)
        again[first] = False
        repeated: list[int] = np.flatnonzero(again).tolist()
        return repeated

    def shared(self, other: RowDigests) -> list[int]:
        """Positions of rows that ``other`` has too, token for token; rising."""
        theirs = set(other.digest.tolist())
        return [place for place, digest in enumerate(self.digest.tolist()) if digest in theirs]

    @classmethod
    def from_digests(cls, lengths: Sequence[int], digests: Sequence[bytes]) -> RowDigests:
        """Of lengths and digests that were taken in one pass."""
        return cls(
            length=np.asarray(lengths, dtype=np.int64),
            digest=np.frombuffer(b"".join(digests), dtype=_DIGEST),
        )


def rows_of(records: Iterable[Sequence[int] | npt.NDArray[np.integer]] | RowDigests) -> RowDigests:
    """Rows of the token ids of records, read once, one at a time.

    >>> rows_of([[5, 6], [7], [5, 6]]).copies()
    [2]
    """
    if isinstance(records, RowDigests):
        return records
    lengths, digests = [], []
    for ids in records:
        lengths.append(len(ids))
        digests.append(digest_of(ids))
    return RowDigests.from_digests(lengths, digests)
