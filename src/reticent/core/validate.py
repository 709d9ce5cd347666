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
import re
from collections.abc import Collection

from reticent.core.errors import BadInput


def positive(**values: float) -> None:
    """Refuse numbers that are not finite and greater than 0."""
    for name, value in values.items():
        if not (_finite(value) and value > 0):
            raise BadInput(f"{name}={value!r}", "must be greater than 0", "Give a positive number.")


def non_negative(**values: float) -> None:
    """Refuse numbers that are not finite and at least 0."""
    for name, value in values.items():
        if not (_finite(value) and value >= 0):
            raise BadInput(f"{name}={value!r}", "must be at least 0", "Give 0 or a positive number.")


def in_range(low: float, high: float, /, **values: float) -> None:
    """Refuse numbers outside the half-open interval ``(low, high]``."""
    for name, value in values.items():
        if not low < value <= high:
            raise BadInput(f"{name}={value!r}", f"must be in ({low}, {high}]", "Give a number in that range.")


def at_most(limit: int, /, **values: float) -> None:
    """Refuse numbers above a limit that no use comes near: they are slips of the finger, and would fill the memory."""
    for name, value in values.items():
        if value > limit:
            shown = f"{value!r}" if value < 10**20 else "a number of many digits"
            raise BadInput(f"{name}={shown}", f"must be at most {limit:,}", "Give a smaller number.")


def seed(**values: int) -> None:
    """Refuse seeds that libraries cannot take: those outside of 32 bits."""
    non_negative(**values)
    at_most(2**32 - 1, **values)


def device(**values: str) -> None:
    """Refuse what cannot be the name of a device that computes; whether it is there is seen when it is used."""
    for name, value in values.items():
        if not re.fullmatch(r"auto|cpu|(cuda|mps|xpu|npu|hpu)(:\d{1,3})?", value):
            raise BadInput(f"{name}={value!r}", "is no device that computes", "Give auto, cpu, cuda or cuda:0.")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


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
