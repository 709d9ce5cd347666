# SPDX-License-Identifier: Apache-2.0
"""Batches and noise drawn a second time, by other code than the training's, for the self-check to compare with.

Both follow from the plan's key and the step, by the definitions in `reticent.privacy.sampling` and
`reticent.privacy.noise`; here they are read once more, as plainly as can be.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from reticent.privacy.noise import TILE, Stretch, add_noise_to_part, normals
from reticent.privacy.sampling import CHUNK
from reticent.privacy.watch import Floats, WatchPoints


def batch_again(key: bytes, step: int, *, units: int, rate: float, purpose: str = "sample") -> list[int]:
    """Numbers of the units that are drawn for that purpose in a step.

    >>> batch_again(bytes(range(32)), 0, units=4, rate=1)
    [0, 1, 2, 3]
    """
    if rate == 1:
        return list(range(units))
    drawn: list[int] = []
    place = -1
    for word in _words(key, purpose, step):
        tail = (min(word, 2**64 - 1 - word) + 0.5) / 2**64
        place += 1 + int(min((-math.log(tail) if word < 2**63 else -math.log1p(-tail)) / -math.log1p(-rate), units))
        if place >= units:
            break
        drawn.append(place)
    return drawn


def noise_again(key: bytes, step: int, where: WatchPoints, parts: Sequence[tuple[int, int]] | None = None) -> Floats:
    """The standard normals that belong at those places of the step's tensors, one tensor behind the other.

    Args:
        parts: for each tensor, if it is a part of one: the number of that, and of the first element in it.
    """
    of_parts = parts or [(number, 0) for number in range(len(where.spans))]
    spans = [
        (number, (first + start, first + stop))
        for (number, first), of_one in zip(of_parts, where.spans, strict=True)
        for start, stop in of_one
    ]
    tiles = [range(start // TILE, -(-stop // TILE)) for _, (start, stop) in spans]
    tile = np.array([tile_number for run in tiles for tile_number in run], dtype=np.int64)
    tensor = np.repeat(np.array([number for number, _ in spans], dtype=np.uint32), [len(run) for run in tiles])
    drawn = normals(key, step, tensor, tile).reshape(-1)
    pieces, first = [], 0
    for (_, (start, stop)), run in zip(spans, tiles, strict=True):
        offset = first * TILE + start - run[0] * TILE
        pieces.append(drawn[offset : offset + stop - start])
        first += len(run)
    return np.concatenate(pieces) if pieces else np.zeros(0)


def noise_of_one(
    key: bytes, step: int, index: int, size: int, device: torch.device, where: Stretch | None = None
) -> torch.Tensor:
    """All standard normals of one tensor, or of a part, by the generator of the device, which cannot be read in the
    middle."""
    drawn = torch.zeros(size, device=device)
    stretch = where or Stretch(start=0, whole=size)
    add_noise_to_part(drawn, stretch, std=1.0, scale=1.0, key=key, step=step, index=index)
    return drawn


def _words(key: bytes, purpose: str, step: int) -> Iterator[int]:
    chunk = 0
    while True:
        digest = hashlib.shake_256(key + f"{purpose}\0{step}\0{chunk}".encode()).digest(8 * CHUNK)
        for place in range(0, len(digest), 8):
            yield int.from_bytes(digest[place : place + 8], "little")
        chunk += 1
