# SPDX-License-Identifier: Apache-2.0
"""Parameter: a setting of an attack, with its default, its type and the numbers that it may take.

Both are read off the attack's function: ``k: Share = 0.2``, which is ``Annotated[float,
Within("(0, 1]")]``.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from reticent.core.errors import BadInput

_INTERVAL = re.compile(r"([\[(])\s*(-?[\w.]+)\s*,\s*(-?[\w.]+)\s*([\])])")
_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", type(None): "none"}


@dataclass(frozen=True)
class Within:
    """Numbers of an interval, in the usual notation: a round bracket leaves its end out.

    Examples:
        >>> Within("(0, 1]").holds(1), Within("(0, 1]").holds(0), Within("[1, inf)").holds(float("inf"))
        (True, False, False)
    """

    interval: str

    def __post_init__(self) -> None:
        if not _INTERVAL.fullmatch(self.interval):
            raise ValueError(f"{self.interval!r} is no interval such as (0, 1]")

    def holds(self, number: float) -> bool:
        """The number lies inside."""
        match = _INTERVAL.fullmatch(self.interval)
        assert match is not None
        low, high = float(match[2]), float(match[3])
        above = low <= number if match[1] == "[" else low < number
        return above and (number <= high if match[4] == "]" else number < high)


@dataclass(frozen=True)
class GivenFile:
    """A file that whoever runs the attack has to give: without it the attack cannot run, and no choice of all has it.

    Args:
        content: what is in it, for messages.

    Examples:
        >>> parameter = Parameter(name="net", default=None, hint=Annotated[str, GivenFile("weights")] | None)
        >>> parameter.words, parameter.content, parameter.lacking(None), parameter.lacking("weights.json")
        ('a file of weights or none', 'weights', True, False)
    """

    content: str


Share = Annotated[float, Within("(0, 1]")]
Fraction = Annotated[float, Within("[0, 1]")]
Positive = Annotated[float, Within("(0, inf)")]
NonNegative = Annotated[float, Within("[0, inf)")]
Count = Annotated[int, Within("[1, inf)")]


class Unfit(ValueError):
    """A value is of another type, or out of range."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A setting of an attack.

    Args:
        name: of the keyword.
        default: what the attack is run with where nobody sets it.
        hint: the annotation; where there is none, the default's type.
    """

    name: str
    default: Any
    hint: Any

    @property
    def words(self) -> str:
        """Values that it may take, in words.

        Examples:
            >>> Parameter(name="k", default=0.2, hint=typing.Annotated[float, Within("(0, 1]")]).words
            'a number in (0, 1]'
        """
        return _words(self.hint)

    @property
    def content(self) -> str:
        """The content of the file that has to be given; empty where the parameter is none."""
        return next((limit.content for limit in _limits(self.hint) if isinstance(limit, GivenFile)), "")

    def lacking(self, value: Any) -> bool:
        """The attack cannot run with this value: a file has to be given, and none was."""
        return bool(self.content) and value is None

    def read(self, attack: str, value: Any) -> Any:
        """The value, as the function takes it: whole numbers as floats where it wants floats, lists as tuples.

        Raises:
            BadInput: it is of another type, or out of range.

        Examples:
            >>> Parameter(name="k", default=0.2, hint=float).read("min_k", 1)
            1.0
        """
        try:
            return _read(value, self.hint)
        except Unfit as error:
            given = f"{attack}: {self.name}={shown(value)}"
            raise BadInput(given, f"must be {self.words}", f"Its default is {shown(self.default)}.") from error


def parameters_of(function: Callable[..., Any], defaults: Mapping[str, Any]) -> dict[str, Parameter]:
    """Parameters of a function by name, for its keyword-only arguments and their defaults."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # annotations of things that only a type checker imports
        hints = {}
    plain = {name: Any if value is None else type(value) for name, value in defaults.items()}
    return {
        name: Parameter(name=name, default=value, hint=hints.get(name, plain[name])) for name, value in defaults.items()
    }


def shown(value: Any) -> str:
    """A value as it is written in ``--attacks``.

    >>> shown(True), shown(None), shown((2, 3)), shown(0.1), shown("top")
    ('true', 'none', '[2,3]', '0.1', 'top')
    """
    if isinstance(value, (list, tuple)):
        return f"[{','.join(shown(part) for part in value)}]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _read(value: Any, hint: Any) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _limited(_read(value, parts[0]), parts[1:])
    if origin in (typing.Union, types.UnionType):
        return _first(value, parts)
    if origin is typing.Literal:
        if value not in parts or isinstance(value, bool) not in {isinstance(part, bool) for part in parts}:
            raise Unfit
        return value
    if origin is tuple:
        return _tuple(value, parts)
    return _plain(value, hint)


def _limited(read: Any, limits: tuple[Any, ...]) -> Any:
    """The value itself, where all of its numbers keep to all limits."""
    for limit in limits:
        for number in read if isinstance(read, tuple) else (read,):
            if isinstance(limit, Within) and not (isinstance(number, (int, float)) and limit.holds(number)):
                raise Unfit
            if isinstance(limit, GivenFile) and not _is_file(number):
                raise Unfit
    return read


def _is_file(given: Any) -> bool:
    try:
        return bool(given) and Path(given).expanduser().is_file()
    except (TypeError, ValueError, OSError, RuntimeError):
        return False


def _limits(hint: Any) -> list[Any]:
    """The limits behind a type in its annotation, of each where there are several."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Annotated:
        return list(parts[1:])
    return [limit for part in parts for limit in _limits(part)]


def _first(value: Any, parts: tuple[Any, ...]) -> Any:
    """The value as the first of several types that it fits."""
    for part in parts:
        try:
            return _read(value, part)
        except Unfit:
            continue
    raise Unfit


def _tuple(value: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise Unfit
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_read(entry, parts[0]) for entry in value)
    if len(parts) != len(value):
        raise Unfit
    return tuple(_read(entry, part) for entry, part in zip(value, parts, strict=True))


def _plain(value: Any, hint: Any) -> Any:
    if hint in (float, int):
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not _finite(value):
            raise Unfit
        if hint is int and value != int(value):
            raise Unfit
        return hint(value)
    if hint in (bool, str, type(None)) and not isinstance(value, hint):
        raise Unfit
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _words(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        files = [f"a file of {limit.content}" for limit in parts[1:] if isinstance(limit, GivenFile)]
        if files:
            return files[0]
        limits = [limit.interval for limit in parts[1:] if isinstance(limit, Within)]
        return _words(parts[0]) + "".join(f" in {interval}" for interval in limits)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(part) for part in parts)
    if origin is typing.Literal:
        return " or ".join(map(shown, parts))
    if origin is tuple:
        return f"a list, each {_words(parts[0])}"
    return _NAMES.get(hint, "a value")
