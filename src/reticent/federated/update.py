# SPDX-License-Identifier: Apache-2.0
"""A client's update: what local training added to each trained array. Its norm, clipping, sums, and what is refused.

Everything that a client sends is checked here before anything else reads it: a sum that one NaN has entered, or an
array of another shape, is lost for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

Update = Mapping[str, torch.Tensor]
"""Name of a trained array → its change, float32 on the CPU."""


LEAST_FACTOR = 1e-30
"""Smaller factors lose digits in float32, so that a huge update would come out longer than the bound."""


class RefusedUpdate(ValueError):
    """An update that may not be summed. The message says why, and holds nothing of its contents."""


def check_update(update: Update, like: Update) -> None:
    """Refuse an update that does not fit to the global arrays.

    Args:
        update: as a client sent it.
        like: the global arrays.

    Raises:
        RefusedUpdate: other names, shapes or types, or a number that is not finite.

    Examples:
        >>> like = {"a": torch.zeros(2)}
        >>> check_update({"a": torch.ones(2)}, like)
        >>> check_update({"a": torch.tensor([0.0, float("nan")])}, like)
        Traceback (most recent call last):
            ...
        reticent.federated.update.RefusedUpdate: a number that is not finite
    """
    if set(update) != set(like):
        raise RefusedUpdate("other arrays than those that are trained")
    for name, expected in like.items():
        array = update[name]
        if array.shape != expected.shape:
            raise RefusedUpdate("an array of another shape")
        if array.dtype != torch.float32:
            raise RefusedUpdate("an array that is not float32")
        # One pass: a sum of float32 in float64 is finite only where all are, and opposite infinities give NaN.
        if not math.isfinite(float(array.sum(dtype=torch.float64))):
            raise RefusedUpdate("a number that is not finite")


def norm(update: Update) -> float:
    """Euclidean norm over all arrays, in float64.

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    5.0
    """
    return math.sqrt(math.fsum(float(array.double().square().sum()) for array in update.values()))


def clipped(update: Update, bound: float) -> dict[str, torch.Tensor]:
    """The update, scaled down to a norm of at most ``bound``; one that is shorter stays as it is.

    >>> clipped({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}, 1.0)
    {'a': tensor([0.6000]), 'b': tensor([0.8000])}
    >>> clipped({"a": torch.zeros(1)}, 1.0)
    {'a': tensor([0.])}
    """
    length = norm(update)
    if length <= bound:
        return dict(update)
    factor = bound / length
    if factor < LEAST_FACTOR:
        return {name: (array.double() * factor).float() for name, array in update.items()}
    return {name: array * factor for name, array in update.items()}


def zeros_like(arrays: Update) -> dict[str, torch.Tensor]:
    """The update that changes nothing."""
    return {name: torch.zeros_like(array) for name, array in arrays.items()}


def add_(total: dict[str, torch.Tensor], update: Update) -> None:
    """Add ``update`` to ``total`` in place."""
    for name, array in total.items():
        array.add_(update[name])
