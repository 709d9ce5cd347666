# SPDX-License-Identifier: Apache-2.0
"""Tests of a running engine against what was promised: the size and freshness of noise, sizes and overlap of batches.

Each test is exact, is made again after every step, and all looks of a run together raise a false alarm with at most the
stated probability (Bonferroni). No torch: arrays in, the first deviation out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]


class NoiseMeter:
    """Tests that samples are Gaussian noise of standard deviation ``std``, new each time, in each parameter.

    ================  ==================================================  ==========================================
    what is wrong     test                                                found
    ================  ==================================================  ==========================================
    no noise          χ² on the sum of squares, per parameter             at once, also in one parameter of one element
    too little, much  the same over all steps so far; and all parameters  error of ``std`` about 5 / √samples
    not centred       the sum over the steps so far is Gaussian           the same, in the mean
    used again        correlation with the step before                    at once
    shared            correlation of neighbouring parameters              with 64 or more elements, within some steps
    ================  ==================================================  ==========================================

    Args:
        names: of the parameters.
        sizes: samples of each, one or more.
        shared: how many of the first samples of each are its first elements, so that they may be compared across.
        std: what was promised, positive.
        steps: how many steps there are at most.
        error: chance of a false alarm in a run.
    """

    def __init__(
        self, names: Sequence[str], sizes: Sequence[int], shared: Sequence[int], *, std: float, steps: int, error: float
    ) -> None:
        self.names, self.sizes, self.std = list(names), np.asarray(sizes), std
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self.squares = np.zeros(len(self.names))
        self.total, self.looks = 0.0, 0
        self.before: Floats | None = None
        self._pairs(shared)
        # χ² for each parameter and for all, the mean, the step before, and each pair: all on both sides.
        self.alpha = error / (steps * (2 * len(self.names) + 3))

    def add(self, noise: Floats) -> str | None:
        """Take the samples of one step, ``[sum of sizes]``; say what deviates, if anything does."""
        noise = noise / self.std
        self.looks += 1
        self.squares += np.add.reduceat(noise**2, self.starts)
        self.total += float(noise.sum())
        deviation = self._size() or self._mean() or self._again(noise) or self._shared(noise)
        self.before = noise
        return deviation

    @property
    def samples(self) -> int:
        """How many samples were seen."""
        return self.looks * int(self.sizes.sum())

    @property
    def ratio(self) -> float:
        """Measured over promised standard deviation, all parameters."""
        return float(np.sqrt(self.squares.sum() / max(self.samples, 1)))

    @property
    def ratios(self) -> Floats:
        """The same for each parameter."""
        return np.asarray(np.sqrt(self.squares / np.maximum(self.looks * self.sizes, 1)))

    def _size(self) -> str | None:
        degrees = self.looks * self.sizes
        p = two_sided(special.chdtr(degrees, self.squares), special.chdtrc(degrees, self.squares))
        worst = int(np.argmin(p))
        if not p[worst] >= self.alpha:
            return f"{self._measured(self.ratios[worst], degrees[worst])} in parameter {self.names[worst]}"
        whole = self.squares.sum()
        if not two_sided(special.chdtr(self.samples, whole), special.chdtrc(self.samples, whole)) >= self.alpha:
            return f"{self._measured(self.ratio, self.samples)} over all parameters"
        return None

    def _mean(self) -> str | None:
        z = self.total / np.sqrt(self.samples)
        return None if self._plausible(z) else f"the noise is not centred: its mean is {z:.1f} standard errors off 0"

    def _again(self, noise: Floats) -> str | None:
        if self.before is None:
            return None
        z = correlation(noise, self.before)
        return None if self._plausible(z) else f"the noise goes with that of the step before ({z:.1f} standard errors)"

    def _shared(self, noise: Floats) -> str | None:
        if not len(self.pair):
            return None
        left, right = noise[self.left], noise[self.right]
        z = np.bincount(self.pair, left * right) / np.sqrt(np.bincount(self.pair, right**2))
        worst = int(np.argmax(np.abs(z)))
        if self._plausible(z[worst]):
            return None
        pair = f"{self.names[worst + 1]} and {self.names[worst]}"
        return f"the noise in {pair} goes together ({z[worst]:.1f} standard errors)"

    def _pairs(self, shared: Sequence[int]) -> None:
        """Where the first elements of each parameter and of the one before it lie in the samples."""
        common = [min(count, other) for count, other in zip(shared[1:], shared[:-1], strict=True)]
        runs = [np.arange(n) for n in common]
        empty = np.zeros(0, dtype=np.int64)
        self.pair = np.repeat(np.arange(len(common)), common) if common else empty
        self.left = np.concatenate([empty, *(s + e for s, e in zip(self.starts[1:], runs, strict=True))])
        self.right = np.concatenate([empty, *(s + e for s, e in zip(self.starts[:-1], runs, strict=True))])

    def _plausible(self, z: float) -> bool:
        return bool(2 * special.ndtr(-abs(z)) >= self.alpha)

    def _measured(self, ratio: float, samples: int) -> str:
        return f"the standard deviation is {ratio * self.std:.4g} instead of {self.std:.4g} ({samples} samples)"


class SizeMeter:
    """Tests that batch sizes are draws of Binomial(units, rate): the right mean, no size impossible, not too regular.

    Args:
        units: how many there are to draw.
        rate: chance of each to be drawn.
        steps: how many steps there are at most.
        error: chance of a false alarm in a run.
    """

    def __init__(self, units: int, rate: float, *, steps: int, error: float) -> None:
        self.units, self.rate = units, rate
        self.mode = int((units + 1) * rate) if rate < 1 else units
        self.share = float(stats.binom.pmf(self.mode, units, rate))
        self.looks, self.total, self.modes = 0, 0, 0
        self.alpha = error / (3 * steps)

    def add(self, size: int) -> str | None:
        """Take the size of one batch; say what deviates, if anything does."""
        self.looks += 1
        self.total += size
        self.modes += size == self.mode
        expected = self.units * self.rate
        if not two_sided(*tails(size, self.units, self.rate)) >= self.alpha:
            return f"a batch has {size} units, and {expected:.1f} are expected"
        if not two_sided(*tails(self.total, self.looks * self.units, self.rate)) >= self.alpha:
            return f"batches have {self.mean:.2f} units on average over {self.looks} steps instead of {expected:.2f}"
        if not tails(self.modes, self.looks, self.share)[1] >= self.alpha:
            return f"{self.modes} of {self.looks} batches have exactly {self.mode} units: they are not drawn by coins"
        return None

    @property
    def mean(self) -> float:
        """Mean size so far."""
        return self.total / max(self.looks, 1)


class DrawMeter:
    """Tests that each unit is drawn by its own coin, new in each step: none too often or too seldom, and no more in two
    steps one after the other than by chance. Sizes alone do not show it: a training can go through shuffled passes.

    Args:
        units: how many there are to draw.
        rate: chance of each to be drawn.
        steps: how many steps there are at most.
        error: chance of a false alarm in a run.
    """

    def __init__(self, units: int, rate: float, *, steps: int, error: float) -> None:
        self.units, self.rate = units, rate
        self.counts = np.zeros(units, dtype=np.int64)
        self.before: npt.NDArray[np.int64] | None = None
        self.looks = 0
        self.alpha = error / (2 * steps)

    def add(self, numbers: Sequence[int]) -> str | None:
        """Take the numbers of the units of one batch; say what deviates, if anything does."""
        drawn = np.asarray(numbers, dtype=np.int64)
        self.counts[drawn] += 1
        self.looks += 1
        shared = None if self.before is None else int(np.isin(drawn, self.before, assume_unique=True).sum())
        before, self.before = self.before, drawn
        if self.rate == 1:
            return None
        for count, side in ((int(self.counts.max()), 1), (int(self.counts.min()), 0)):
            if not 2 * self.units * tails(count, self.looks, self.rate)[side] >= self.alpha:
                return f"a unit was in {count} of {self.looks} batches, and {self.looks * self.rate:.1f} are expected"
        if before is None or shared is None or two_sided(*tails(shared, len(before), self.rate)) >= self.alpha:
            return None
        return f"{shared} of the {len(before)} units of one batch are in the next"


def tails(count: int, n: int, rate: float) -> tuple[float, float]:
    """P[X ≤ count] and P[X ≥ count] for X ~ Binomial(n, rate)."""
    if count > n:
        return 1.0, 0.0
    return float(special.bdtr(count, n, rate)), float(special.bdtrc(count - 1, n, rate)) if count > 0 else 1.0


def two_sided(below: npt.ArrayLike, above: npt.ArrayLike) -> Floats:
    """p-value from both tails, each counting what was seen."""
    return np.asarray(np.minimum(1.0, 2 * np.minimum(below, above)))


def correlation(noise: Floats, other: Floats) -> float:
    """Standard Gaussian if ``noise`` is standard Gaussian and has nothing to do with ``other``, whatever that is."""
    length = float(np.sqrt((other**2).sum()))
    return float((noise * other).sum()) / length if length > 0 else 0.0
