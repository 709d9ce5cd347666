# SPDX-License-Identifier: Apache-2.0
"""Public names of a package that are imported when they are first used, from one list that type checkers read too.

A package writes its public names once, as imports below ``if TYPE_CHECKING:``, and ends with::

    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)

So `import reticent` takes milliseconds, and what a type checker sees is what Python finds: both read the same lines.
The form is that of SPEC 1 (https://scientific-python.org/specs/spec-0001/), which keeps the list in a stub instead.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class LazyNames(NamedTuple):
    """The values that a package assigns to ``__all__``, ``__getattr__`` and ``__dir__``."""

    names: list[str]
    get: Callable[[str], Any]
    list: Callable[[], list[str]]


def lazy_names(package: str, file: str) -> LazyNames:
    """The public names of a package, each imported from where it is defined when it is first used.

    Args:
        package: ``__name__`` of the package.
        file: ``__file__`` of the package, whose ``if TYPE_CHECKING:`` block is read.
    """
    homes = homes_of(Path(file).read_text(encoding="utf-8"))

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        if home == package:  # a module of the package
            value: Any = importlib.import_module(f"{package}.{name}")
        else:
            value = getattr(importlib.import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    names = sorted(homes)
    return LazyNames(names, get, lambda: sorted({*vars(sys.modules[package]), *names}))


def homes_of(source: str) -> dict[str, str]:
    """Name → module that it is imported from, for the imports below ``if TYPE_CHECKING:``.

    >>> homes_of("if TYPE_CHECKING:\\n    from reticent.core.record import Record as Record")
    {'Record': 'reticent.core.record'}
    """
    blocks = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    imports = (
        statement
        for block in blocks
        if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
    )
    return {
        alias.name: statement.module for statement in imports if statement.module is not None
        for alias in statement.names if alias.asname == alias.name
    }  # fmt: skip
