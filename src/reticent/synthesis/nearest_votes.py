# SPDX-License-Identifier: Apache-2.0
"""Votes of private texts for the synthetic texts that are nearest to them: the histogram, its noise, and who is kept.

Each record of a unit that counts votes for one text, with a weight of 1 / (records of the unit that count). So the
votes of a unit add up to 1, none is below 0, and their length (L2) is at most 1, however many records there are: one
unit that comes or goes moves the histogram by at most 1, one that is replaced by at most √2. Who is kept follows from
the noisy votes alone, so it costs nothing (Private Evolution, arXiv:2403.01749).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.promise_check import PromiseCheck
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.noise import add_noise, normals
from reticent.privacy.sampling import words

Floats = npt.NDArray[np.float64]
Votes = npt.NDArray[np.int64]
LEFT_OUT = 32
"""Units that the self-check leaves out, one after the other, in each round."""
ROUNDING = 1e-4


def nearest(private: Floats, candidates: Floats) -> Votes:
    """``[N]``: for each private embedding ``[N, D]`` the number of the nearest candidate ``[M, D]`` by angle; of equals
    the first. Each row is compared by itself, so that no text changes the vote of another.

    >>> nearest(np.array([[1.0, 0.1], [0.0, 2.0]]), np.array([[3.0, 0.0], [0.0, 1.0]]))
    array([0, 1])
    """
    scaled = candidates / np.maximum(np.linalg.norm(candidates, axis=1, keepdims=True), 1e-12)
    return np.array([int(np.argmax(scaled @ row)) for row in private], dtype=np.int64)


def histogram(votes: Votes, units: Sequence[Sequence[int]], *, candidates: int) -> Floats:
    """``[candidates]``: the votes of all units, each unit's adding up to 1.

    Args:
        votes: ``[N]`` the candidate that each record votes for.
        units: of each the numbers of its records that count.
        candidates: how many there are to vote for.

    >>> histogram(np.array([0, 0, 1]), [(0, 2), (1,)], candidates=3)
    array([1.5, 0.5, 0. ])
    """
    if not units:
        return np.zeros(candidates)
    sizes = np.array([len(records) for records in units])
    numbers = np.fromiter(chain.from_iterable(units), dtype=np.int64, count=int(sizes.sum()))
    counts = np.bincount(votes[numbers], weights=np.repeat(1 / sizes, sizes), minlength=candidates)
    return counts.astype(np.float64)


def histogram_naively(votes: Sequence[int], units: Sequence[Sequence[int]], *, candidates: int) -> list[float]:
    """The slow, obvious way: for each candidate, over all units, the share of their records that vote for it.

    >>> histogram_naively([0, 0, 1], [(0, 2), (1,)], candidates=3)
    [1.5, 0.5, 0.0]
    """
    return [
        sum(sum(votes[record] == candidate for record in records) / len(records) for records in units)
        for candidate in range(candidates)
    ]


def noised(votes: Floats, *, std: float, key: bytes, round_number: int) -> Floats:
    """Votes with Gaussian noise that is a function of key and round."""
    sums = torch.as_tensor(votes, dtype=torch.float32).clone()
    add_noise(sums, std=std, scale=1.0, key=key, step=round_number, index=0, impl="reference")
    return sums.double().numpy()


def kept(noisy: Floats, *, count: int, least: float, key: bytes, round_number: int) -> Votes:
    """``[count]`` numbers of candidates, rising, some maybe several times: by chance in proportion to the votes above
    ``least``, in equal steps from one random start. Where nothing is above it, the ``count`` with most votes.

    >>> kept(np.array([4.0, 0.0, 4.0]), count=4, least=1.0, key=bytes(range(32)), round_number=0)
    array([0, 0, 2, 2])
    """
    weights = np.maximum(noisy - least, 0.0)
    if weights.sum() == 0:
        ranked = np.argsort(-noisy, kind="stable")
        return np.sort(ranked[np.arange(count) % len(ranked)])
    start = (int(words(key, "kept", round_number, count=1)[0]) >> 11) * 2.0**-53
    rising = np.cumsum(weights) / weights.sum()
    places = np.searchsorted(rising, (np.arange(count) + start) / count, side="right")
    return np.minimum(places, int(np.flatnonzero(weights)[-1])).astype(np.int64)


class VoteWatch:
    """Measures each vote a second time, and raises where a promise is broken.

    Args:
        std: of the noise that is accounted for.
        rounds: how many are.
        key: that noise follows from.
    """

    def __init__(self, *, std: float, rounds: int, key: bytes) -> None:
        self.std, self.rounds, self.key = std, rounds, key
        self.looks = 0

    def sensitivity(self, count: Callable[[Sequence[Sequence[int]]], Floats], units: Sequence[Sequence[int]]) -> None:
        """Leave some units out, one after the other.

        Args:
            count: gives the histogram of some units.
            units: all of them.

        Raises:
            GuaranteeViolated: the histogram moves by more than 1.
        """
        whole = count(units)
        largest = sorted(range(len(units)), key=lambda unit: -len(units[unit]))[:LEFT_OUT]
        for unit in largest:
            moves = float(np.linalg.norm(whole - count([*units[:unit], *units[unit + 1 :]])))
            if moves > 1 + ROUNDING:
                _broken("a unit moves the histogram by at most 1", f"one moves it by {moves:.4g}")

    def noise(self, round_number: int, before: Floats, after: Floats) -> None:
        """Compare the noise of a round with that of its key.

        Raises:
            GuaranteeViolated: it is other noise, or another amount of it, or of a round that is not accounted for.
        """
        self.looks += 1
        if not 0 <= round_number < self.rounds:
            _broken("so many rounds are noised and counted", f"round {round_number + 1} of {self.rounds}")
        tiles = np.arange(-(-len(before) // 256))
        drawn = self.std * normals(self.key, round_number, 0, tiles).ravel()[: len(before)]
        apart = float(np.abs(after - before - drawn).max()) if len(before) else 0.0
        if apart > ROUNDING * (1 + self.std + float(np.abs(before).max(initial=0.0))):
            _broken("each vote count gets the noise that is counted", f"one is {apart:.4g} off")

    def items(self) -> tuple[PromiseCheck, ...]:
        """All that was checked."""
        rows = (
            ("a unit moves the histogram by at most 1", "1 (L2)"),
            ("each vote count gets the noise that is counted", f"standard deviation {self.std:.3g}"),
            ("so many rounds are noised and counted", str(self.rounds)),
        )
        passed = True if self.looks else None
        return tuple(PromiseCheck(name=name, bound=bound, passed=passed) for name, bound in rows)


def _broken(promise: str, measured: str) -> None:
    raise GuaranteeViolated(promise, measured, "Nothing of this run may be released.")
