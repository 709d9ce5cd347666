# SPDX-License-Identifier: Apache-2.0
"""RoundWatch: a private round seen a second time, at some elements of each array, by other code than the round's own.

Updates are clipped here once more, from their norm by another routine, and added up in float64 at watched places only
(`reticent.privacy.watch`), so looking costs little beside the sum itself. What it saw is judged in
`reticent.federated.federation_check`. None of it may be released: no noise covers it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reticent.federated.update import Update
from reticent.privacy.noise import NoiseSums
from reticent.privacy.watch import Floats, WatchPoints, places


@dataclass(frozen=True, kw_only=True)
class RoundMeasurements:
    """Sight of one round; arrays in the order of ``names``, ``[watched elements]`` where they are watched.

    Args:
        round: its number, from 0.
        clip: the norm that updates were clipped to.
        next_clip: that of the next round.
        denominator: what the noised sum was divided by.
        drawn: numbers of the clients that were drawn.
        answered: how many updates are in the sum.
        refused: how many were sent and left out.
        norms: of the updates in the sum, before clipping.
        names: of the arrays.
        places: where arrays were watched.
        summed: the sum before noise.
        expected: what it had to be.
        weight: Σ of absolute values of what was added, by which rounding is judged.
        mean: what left the round.
        noise: what `add_noise` saw of each array.
        bits: sum of the bits less a half each; 0 where the clip norm is fixed.
        noised_bits: the same with its noise; None where the clip norm is fixed.
        fraction: the share of short updates that the next clip norm follows from, with its noise.
    """

    round: int
    clip: float
    next_clip: float
    denominator: float
    drawn: tuple[int, ...]
    answered: int
    refused: int
    norms: tuple[float, ...]
    names: tuple[str, ...]
    places: WatchPoints
    summed: Floats
    expected: Floats
    weight: Floats
    mean: Floats
    noise: tuple[NoiseSums, ...]
    bits: float
    noised_bits: float | None
    fraction: float | None


class RoundWatch:
    """Looks at the updates of one round as they arrive, at the sum and at what leaves.

    Args:
        names: of the arrays, in the order in which they are noised.
        like: the global arrays.
        clip: the norm that updates are clipped to.
        key: 32 secret bytes; where is looked follows from it.
        number: of the round.
    """

    def __init__(self, names: Sequence[str], like: Update, *, clip: float, key: bytes, number: int) -> None:
        self.names, self.clip = tuple(names), clip
        self.places = places([like[name].numel() for name in names], key, number)
        self.expected = np.zeros(sum(self.places.counts))
        self.weight = np.zeros_like(self.expected)
        self.norms: list[float] = []

    def arrived(self, update: Update) -> None:
        """Take an update as it was sent, one that is summed."""
        parts = [torch.linalg.vector_norm(update[name], dtype=torch.float64).item() for name in self.names]
        length = math.hypot(*parts)
        added = self.of(update) * (min(1.0, self.clip / length) if length else 1.0)
        self.expected += added
        self.weight += np.abs(added)
        self.norms.append(length)

    def of(self, arrays: Mapping[str, torch.Tensor]) -> Floats:
        """Some arrays at the watched places."""
        return self.places.of([arrays[name] for name in self.names])
