# SPDX-License-Identifier: Apache-2.0
"""How far each of n + 1 models lies from the others, by a rule that treats all of them alike.

Alike is what makes a p-value exact: a reference that is learned from the clean models alone would know them and not the
suspect. Here the reference of each model is learned from all others, the suspect among them, so that scores of
exchangeable models are exchangeable (full conformal prediction; Vovk, Gammerman and Shafer, 2005), whatever was learned
and however few models there are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput

Floats = npt.NDArray[np.float64]
Distance = Callable[[Floats], Floats]
FEWEST = 3
"""Models without which there is neither a middle nor a spread."""
SHRINKAGE = 0.5
"""Weight of the identity beside the correlations that few models show."""
_CONSISTENT = 1.4826
"""Median absolute deviation → standard deviation of a Gaussian."""


def robust_distance(models: Floats) -> Floats:
    """Root mean square over features of the distance from the others' median, in units of their spread.

    The spread of a feature is its median absolute deviation plus the median of those of all features: of few models
    some features agree by chance, and would count for everything. So features must be in comparable units.

    Args:
        models: ``[N, F]``.

    Returns:
        ``[N]``, at least 0; larger is stranger.

    Raises:
        BadInput: fewer than `FEWEST` models.

    Examples:
        >>> robust_distance(np.array([[0.0], [0.1], [0.2], [0.1], [5.0]])).round(1).tolist()
        [1.0, 0.2, 0.7, 0.2, 33.1]
    """
    return np.sqrt((standardised(models) ** 2).mean(axis=1))


def shrunk_mahalanobis(models: Floats) -> Floats:
    """Length of the standardised features (`standardised`) after their correlations among the others are taken out.

    Correlations are shrunk halfway to none, so that their inverse exists for any number of features. What usually goes
    together (a larger step makes all norms larger) counts little, and what never does counts much.

    Arguments and errors as in `robust_distance`.

    Examples:
        >>> along = np.outer([-2, -1, 0, 1, 2, 2.2], [1, 1]); across = along.copy(); across[-1] = [2.2, -2.2]
        >>> bool(shrunk_mahalanobis(across)[-1] > shrunk_mahalanobis(along)[-1])
        True
    """
    z, middles, spreads = _against_others(models)
    count, width = z.shape
    distance = np.empty(count)
    for place in range(count):
        rows = np.delete(np.arange(count), place)
        others = (models[rows] - middles[place]) / spreads[place]
        clipped = np.clip(others, -3, 3)  # one strange model among the others must not make its direction a usual one
        correlation = SHRINKAGE * np.eye(width) + (1 - SHRINKAGE) * clipped.T @ clipped / len(rows)
        distance[place] = z[place] @ np.linalg.solve(correlation, z[place])
    return np.sqrt(np.maximum(distance, 0) / width)


DISTANCES: dict[str, Distance] = {"robust": robust_distance, "mahalanobis": shrunk_mahalanobis}
"""By name."""


def standardised(models: Floats) -> Floats:
    """``[N, F]``: each model's features less the others' medians, in units of the others' spreads (`robust_distance`).

    Raises:
        BadInput: fewer than `FEWEST` models.
    """
    return _against_others(models)[0]


def _against_others(models: Floats) -> tuple[Floats, Floats, Floats]:
    """Three times ``[N, F]``: standardised features, and the medians and spreads of the others."""
    values = np.asarray(models, dtype=np.float64)
    if values.ndim != 2 or len(values) < FEWEST or not values.shape[1]:
        raise BadInput(
            f"{len(values)} models", f"have no middle and no spread; {FEWEST} have", "Compare with more clean models."
        )
    middles, spreads = np.empty_like(values), np.empty_like(values)
    for place in range(len(values)):
        others = np.delete(values, place, axis=0)
        middles[place] = np.median(others, axis=0)
        deviation = _CONSISTENT * np.median(np.abs(others - middles[place]), axis=0)
        usual = float(np.median(deviation))
        floor = usual or float(deviation.mean()) or 1e-9 * max(1.0, float(np.abs(others).max()))
        spreads[place] = deviation + floor
    return (values - middles) / spreads, middles, spreads
