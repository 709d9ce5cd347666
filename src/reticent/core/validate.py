# SPDX-License-Identifier: Apache-2.0
"""Argument checks in one line each: the keyword becomes the message.

>>> positive(clip_norm=1.0)
>>> positive(clip_norm=0)
Traceback (most recent call last):
    ...
reticent.core.errors.BadInput: clip_norm=0: must be greater than 0. Give a positive number.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from reticent.core.errors import BadInput


def positive(**values: float) -> None:
    """Refuse numbers that are not finite and greater than 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise BadInput(f"{name}={value!r}", "must be greater than 0", "Give a positive number.")


def non_negative(**values: float) -> None:
    """Refuse numbers that are not finite and at least 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise BadInput(f"{name}={value!r}", "must be at least 0", "Give 0 or a positive number.")


def in_range(low: float, high: float, /, **values: float) -> None:
    """Refuse numbers outside the half-open interval ``(low, high]``."""
    for name, value in values.items():
        if not low < value <= high:
            raise BadInput(f"{name}={value!r}", f"must be in ({low}, {high}]", "Give a number in that range.")


def one_of(choices: Collection[str], /, **values: str) -> None:
    """Refuse strings that are not among the choices."""
    for name, value in values.items():
        if value not in choices:
            raise BadInput(
                f"{name}={value!r}", "is not a known choice", f"Choose one of: {', '.join(sorted(choices))}."
            )


def same_length(**arrays: Collection[object]) -> None:
    """Refuse arrays whose first dimensions differ."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise BadInput(given, "the arrays must have one entry for each unit", "Give arrays of the same length.")
