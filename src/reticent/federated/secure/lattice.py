# SPDX-License-Identifier: Apache-2.0
"""Lattice: whole numbers in place of an update, so that updates can be summed modulo a power of two.

The step follows from the clip norm C alone: ``C / levels``, so that no number of a clipped update leaves
``-levels … levels``. Rounding is by a coin that makes it right on average; each number is off by less than a step,
with a standard deviation of at most half a step. Rounded vectors can be longer than C; those longer than
``rounded_norm`` are rounded again (Kairouz, Liu and Steinke 2021, arXiv:2102.06387, Proposition 4), which happens to
at most `LAPSE` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.secure.keyed_hash import Vector
from reticent.federated.secure.random_bits import RandomBits

LAPSE = 2.0**-40
"""Chance of a second rounding; the mean of what is sent is off by no more than this share of its length."""
MOST_TRIES = 20
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Steps of ``clip_norm / levels``.

    Args:
        clip_norm: C, the most that an update's length can be.
        levels: steps from 0 to C.
        dimension: numbers in an update.

    Examples:
        >>> lattice = Lattice(clip_norm=1.0, levels=100, dimension=2)
        >>> lattice.rounded(np.array([0.5, -0.25]), RandomBits(b"k" * 32, "round", 0))
        array([ 50, -25])
        >>> round(lattice.rounded_norm, 2)
        101.41
    """

    clip_norm: float
    levels: int
    dimension: int

    def __post_init__(self) -> None:
        validate.positive(clip_norm=self.clip_norm, levels=self.levels, dimension=self.dimension)

    @property
    def step(self) -> float:
        """Length of a step, in the unit of the update."""
        return self.clip_norm / self.levels

    @property
    def rounded_norm(self) -> float:
        """The most that a rounded update's length can be, in steps."""
        root = math.sqrt(self.dimension)
        likely = self.levels**2 + self.dimension / 4 + math.sqrt(2 * math.log(1 / LAPSE)) * (self.levels + root / 2)
        return math.sqrt(min(likely, (self.levels + root) ** 2))

    def rounded(self, values: npt.NDArray[np.floating], bits: RandomBits) -> Whole:
        """The update in steps, ``[dimension]``, right on average.

        Args:
            values: ``[dimension]``, no longer than ``clip_norm``.
            bits: the source of randomness.

        Raises:
            BadInput: another shape, a number that is not finite, or an update that is longer than the clip norm.
        """
        if values.shape != (self.dimension,):
            raise BadInput(f"an update of shape {values.shape}", f"must be [{self.dimension}]", "Flatten it first.")
        steps = values.astype(np.float64) / self.step
        # 1e-6 is what clipping in float32 may be off by.
        if not float(np.linalg.norm(steps)) <= self.levels * (1 + 1e-6):
            raise BadInput("an update", "is longer than the clip norm, or not finite", "Clip it first.")
        floor = np.floor(steps)
        share = steps - floor
        for _ in range(MOST_TRIES):
            whole = floor.astype(np.int64) + (bits.uniforms(self.dimension) < share)
            whole = np.clip(whole, -self.levels, self.levels)
            if float(np.linalg.norm(whole.astype(np.float64))) <= self.rounded_norm:
                return whole
        raise RuntimeError(f"{MOST_TRIES} roundings in a row were too long, which has a chance below 2^-800")

    def restored(self, total: Whole) -> npt.NDArray[np.float64]:
        """A sum of rounded updates in the unit of the update."""
        return total.astype(np.float64) * self.step


def wrapped(whole: Whole, bits: int) -> Vector:
    """Whole numbers modulo ``2^bits``, uint32.

    >>> wrapped(np.array([-1, 3]), 8)
    array([255,   3], dtype=uint32)
    """
    return (whole & ((1 << bits) - 1)).astype(np.uint32)


def check_modulus(bits: int, *, clients: int, levels: int, noise: float) -> None:
    """Refuse a modulus in which the sum of all clients could wrap around.

    Args:
        bits: of the modulus.
        clients: the most that may be in a sum.
        levels: the most that each number of a client can be, in steps.
        noise: the most that the noise of the sum can be, in steps.

    Raises:
        BadInput: it is too small; with the bits that would do.

    Examples:
        >>> check_modulus(16, clients=10, levels=1000, noise=500.0)
    """
    most = clients * levels + math.ceil(noise)
    needed = (2 * most + 1).bit_length()
    if needed > bits:
        raise BadInput(
            f"a modulus of {bits} bits",
            f"is too small for {clients} clients of up to {levels} steps each and noise of up to {noise:.0f}",
            f"Take {needed} bits, or fewer levels.",
        )
