# SPDX-License-Identifier: Apache-2.0
"""Ranges that settings of unlearning methods lie in, read off annotations: ``beta: Positive = 0.1``. No torch."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Bounds:
    """Finite numbers from ``low`` to ``high``.

    Args:
        words: how a message calls them.
        low: smallest number.
        high: largest number.
        open_low, open_high: that end itself is left out.
    """

    words: str
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, number: float) -> bool:
        """The number is finite and lies inside.

        >>> Bounds("a share", 0, 1, open_low=True).holds(0), Bounds("any").holds(float("inf"))
        (False, False)
        """
        try:
            finite = math.isfinite(number)
        except OverflowError:  # a whole number beyond all floats
            return False
        above = number > self.low if self.open_low else number >= self.low
        return finite and above and (number < self.high if self.open_high else number <= self.high)


MOST = 2**32 - 1
"""Of whole numbers: more is a slip of the finger, and no seed."""

Finite = Annotated[float, Bounds("a finite number")]
Positive = Annotated[float, Bounds("a number greater than 0", 0, open_low=True)]
NonNegative = Annotated[float, Bounds("a number of at least 0", 0)]
Chance = Annotated[float, Bounds("a number of at least 0 and below 1", 0, 1, open_high=True)]
Share = Annotated[float, Bounds("a number between 0 and 1", 0, 1, open_low=True, open_high=True)]
Count = Annotated[int, Bounds("a whole number of at least 1", 1, MOST)]
Index = Annotated[int, Bounds("a whole number of at least 0", 0, MOST)]


@dataclass(frozen=True, kw_only=True)
class MethodSetting:
    """A number, a word or a switch that a method can be given.

    Args:
        default: its value when nobody says otherwise, of the type that it must have.
        bounds: the numbers that it may be; None where it has no annotation of this module.
    """

    default: Any
    bounds: Bounds | None

    def fault(self, value: Any) -> str:
        """A description of the values that it takes; empty where ``value`` is one.

        >>> setting = MethodSetting(default=0.1, bounds=Bounds("a number greater than 0", 0, open_low=True))
        >>> setting.fault(1), setting.fault(-1), setting.fault("1")
        ('', 'a number greater than 0', 'a number greater than 0')
        """
        if isinstance(self.default, bool):
            return "" if isinstance(value, bool) else "true or false"
        if isinstance(self.default, str):
            return "" if isinstance(value, str) else "a word"
        whole = isinstance(self.default, int)
        bounds = self.bounds or Bounds("a finite whole number" if whole else "a finite number")
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        return "" if number and bounds.holds(value) else bounds.words


def settings_of(thing: Callable[..., Any] | object) -> dict[str, MethodSetting]:
    """The keyword-only parameters of a function, or the fields of a dataclass, with their ranges.

    Raises:
        ValueError: one without a default.
    """
    if is_dataclass(thing):
        defaults = {field.name: getattr(thing, field.name) for field in fields(thing)}
        hints = _hints(type(thing))
    else:
        assert callable(thing)
        parameters = inspect.signature(thing).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        hints = _hints(thing)
    bare = [name for name, default in defaults.items() if default is inspect.Parameter.empty]
    if bare:
        raise ValueError(f"the setting {bare[0]!r} needs a default")
    return {name: MethodSetting(default=default, bounds=_bounds(hints.get(name))) for name, default in defaults.items()}


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except NameError:  # a name that the module imports for type checkers alone: then its settings have no range
        return {}


def _bounds(hint: Any) -> Bounds | None:
    return next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Bounds)), None)
