# SPDX-License-Identifier: Apache-2.0
"""ε counted a second time, by other code than the accountant's, for the self-check to hold the statement against.

The privacy loss of a step is put on a grid, each value to the nearest point, and summed over steps by the fast Fourier
transform (Koskela, Jälkö and Honkela 2020, arXiv:1906.03049). Nothing is rounded to the safe side, so this is an
estimate, good to about one per cent, of what is given away when the unit is in; no promise is made from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtr

LEAST_DELTA = 1e-10
"""Below, the rounding of the transform is as large as δ."""
_POINTS, _REACH = 60_000, 12.0
_FINE = 1 / 20
"""Width of a cell over the standard deviation of a step's loss."""
_MOST_CELLS = 2**23


def epsilon_again(
    noise_multiplier: float, counts: Sequence[int], chances: Sequence[float], *, steps: int, delta: float
) -> float | None:
    """About the smallest ε at ``delta`` of ``steps`` steps in which the unit adds N(count, noise_multiplier²).

    Args:
        noise_multiplier: standard deviation of the noise over the clip norm.
        counts: in how many of the sampled units the protected unit is behind, in a step.
        chances: of each count; sum 1.

    Returns:
        None where ``delta`` is too small, or the steps too many, for this way of counting.

    >>> round(epsilon_again(2.0, [1], [1.0], steps=1, delta=1e-5), 2)  # Gaussian mechanism: 1.99
    1.99
    """
    if delta < LEAST_DELTA or steps == 0:
        return 0.0 if steps == 0 else None
    edges = np.linspace(-_REACH * noise_multiplier, max(counts) + _REACH * noise_multiplier, _POINTS)
    middle = (edges[1:] + edges[:-1]) / 2
    of = np.asarray(counts, dtype=float)
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(chances, dtype=float))
    loss = logsumexp((2 * np.outer(middle, of) - of**2) / (2 * noise_multiplier**2) + logs, axis=1)
    mass = np.asarray(chances) @ _masses(edges, of, noise_multiplier)
    mean = float(mass @ loss)
    spread = math.sqrt(float(mass @ (loss - mean) ** 2))
    width = max(spread * _FINE, 1e-12)
    tail = -float(log_ndtr(-_REACH)) / 4
    low = min(steps * mean - tail * spread * math.sqrt(steps), float(loss.min())) - 1
    high = max(steps * mean + tail * spread * math.sqrt(steps), float(loss.max())) + 1
    cells = 2 ** math.ceil(math.log2((high - low) / width))
    if cells > _MOST_CELLS:
        return None
    places = np.rint((loss - mean) / width).astype(np.int64) % cells
    step = np.bincount(places, weights=mass, minlength=cells)
    many = np.fft.irfft(np.fft.rfft(step) ** steps, cells).clip(min=0)
    number = np.arange(cells)
    total = steps * mean + width * np.where(number < cells // 2, number, number - cells)
    return _epsilon(total, many, delta)


def _masses(edges: np.ndarray, counts: np.ndarray, sigma: float) -> np.ndarray:
    """``[counts, cells]``: chance of each cell under N(count, σ²)."""
    z = (edges[None, :] - counts[:, None]) / sigma
    # Differences of the smaller tail, which keep their digits.
    below, above = ndtr(z), ndtr(-z)
    return np.where(z[:, :-1] < 0, np.diff(below, axis=1), -np.diff(above, axis=1))


def _epsilon(loss: np.ndarray, mass: np.ndarray, delta: float) -> float:
    """The smallest ε ≥ 0 with Σ mass·(1 − e^(ε − loss))₊ ≤ δ."""
    low, high = 0.0, float(loss.max())
    over = loss > 0
    loss, mass = loss[over], mass[over]
    while high - low > 1e-6 * max(high, 1e-3):
        epsilon = (low + high) / 2
        beyond = loss > epsilon
        if float(mass[beyond] @ -np.expm1(epsilon - loss[beyond])) > delta:
            low = epsilon
        else:
            high = epsilon
    return high
