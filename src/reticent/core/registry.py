# SPDX-License-Identifier: Apache-2.0
"""One small registry: a folder of files (and other packages' entry points) becomes a set of named things."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from reticent.core.errors import BadInput

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, found by importing every module below a package.

    Args:
        kind: what one thing is called in messages, e.g. ``"attack"``.
        package: the package whose modules register things when imported. The same string names the entry-point
            group that other distributions use, so that a plug-in needs no edit here.
        folders: subpackages that hold things of this kind; all of them where none is named.

    Examples:
        >>> numbers: Registry[int] = Registry("number", "reticent.core")
        >>> numbers.add("two", 2), "two" in numbers
        (2, True)
        >>> numbers.get("too")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: number 'too': is not known. Did you mean 'two'? Known: two.
    """

    def __init__(self, kind: str, package: str, folders: tuple[str, ...] = ()) -> None:
        self.kind, self.package, self.folders = kind, package, folders
        self._things: dict[str, T] = {}
        self._discovered = False

    def add(self, name: str, thing: T) -> T:
        """Register ``thing``; a name can be taken once."""
        if name in self._things:
            raise ValueError(f"the {self.kind} {name!r} is registered twice")
        self._things[name] = thing
        return thing

    def get(self, name: str) -> T:
        """The thing of that name.

        Raises:
            BadInput: there is none; the message suggests the nearest name and lists all.
        """
        self._discover()
        if name not in self._things:
            near = difflib.get_close_matches(name, self._things, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise BadInput(f"{self.kind} {name!r}", "is not known", f"{hint}Known: {', '.join(self.names())}.")
        return self._things[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._things)

    def select(self, **values: object) -> list[T]:
        """Those whose attributes have the given values, in the order of their names; a tuple gives several to choose.

        Examples:
            >>> from types import SimpleNamespace
            >>> registry = Registry("fruit", "reticent.core")
            >>> _ = registry.add("plum", SimpleNamespace(name="plum", colour="blue"))
            >>> [fruit.name for fruit in registry.select(colour=("blue", "red"))]
            ['plum']
        """
        wanted = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
        return [thing for thing in self if all(getattr(thing, name) in value for name, value in wanted.items())]

    def __iter__(self) -> Iterator[T]:
        return (self._things[name] for name in self.names())

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._things

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for name in [f"{self.package}.{folder}" for folder in self.folders] or [self.package]:
            package = importlib.import_module(name)
            for module in pkgutil.walk_packages(package.__path__, prefix=f"{name}."):
                importlib.import_module(module.name)
        for point in entry_points(group=self.package):
            try:
                point.load()
            except Exception as error:  # noqa: BLE001 - a broken plug-in must not take the audit down with it
                warnings.warn(f"{self.kind} plug-in {point.name!r} could not be loaded: {error}", stacklevel=2)
