# SPDX-License-Identifier: Apache-2.0
"""Trade-offs between two costs, utility and leakage: which settings no other beats, and what one costs at the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.validate import same_length
from reticent.stats.scores import Floats


def frontier(loss: ArrayLike, leak: ArrayLike) -> NDArray[np.intp]:
    """Indices of the points that no other point beats, by rising loss (and so by falling leakage).

    Lower is better in both. A point is beaten by one that is no worse in both and better in one; of equal points the
    first is kept. O(n log n).

    >>> frontier([1, 2, 3, 2], [9, 5, 6, 7]).tolist()
    [0, 1]

    Args:
        loss: ``[P]`` held-out losses.
        leak: ``[P]`` leakage.
    """
    x, y = np.asarray(loss, dtype=np.float64), np.asarray(leak, dtype=np.float64)
    same_length(loss=x, leak=y)
    order = np.lexsort((y, x))
    before = np.concatenate([[np.inf], np.minimum.accumulate(y[order])[:-1]])
    return order[y[order] < before]


def bracket(loss: ArrayLike, leak: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """The two points of the frontier around the held-out loss ``target`` and the weight of the second, each ``[B]``.

    Any cost may be read off the straight line between the two: a coin that picks one of the two models has just this
    expected loss, and this expected share of members caught. The first is the one that leaks least among those at least
    as good as ``target``, -1 where there is none. The second is the nearest worse one that leaks less; where there is
    none it is the first again.

    >>> low, high, weight = bracket([3.0, 2.0], [0.5, 0.9], 2.25)
    >>> low.tolist(), high.tolist(), weight.tolist()
    ([1], [0], [0.25])

    Args:
        loss: ``[P, B]`` held-out losses of the points, a column for each resample (or ``[P]``).
        leak: ``[P, B]`` their leakage.
        target: ``[B]`` or a number.
    """
    x, y = _columns(loss), _columns(leak)
    aim = np.broadcast_to(np.asarray(target, dtype=np.float64), x.shape[1:])
    column = np.arange(x.shape[1])
    good = x <= aim
    # Of equal leakage the higher loss lies nearer to the target, and gives the same value.
    low = np.argmin(np.where(good, y, np.inf), axis=0)
    reached = good.any(axis=0)
    worse = ~good & (y < y[low, column])
    far = np.where(worse, x, np.inf)
    nearest = far.min(axis=0)
    high = np.argmin(np.where(worse & (x == nearest), y, np.inf), axis=0)
    between = worse.any(axis=0) & reached
    high = np.where(between, high, low)
    width = np.where(between, x[high, column] - x[low, column], 1.0)
    weight = np.where(between, (aim - x[low, column]) / width, 0.0)
    return np.where(reached, low, -1), np.where(reached, high, -1), weight


def _columns(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array
