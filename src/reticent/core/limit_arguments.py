# SPDX-License-Identifier: Apache-2.0
"""The limits of `reticent.core.metrics` as arguments of a function, so that a metric's flag is an edit of one file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from reticent.core.metrics import limits

Function = TypeVar("Function", bound=Callable[..., Any])


def with_limits(function: Function) -> Function:
    """The function with an optional keyword argument for each limit in place of its ``**given``.

    Signature, types and docstring say so, which the command line and ``help()`` read. The docstring lists the limits
    where its ``Args:`` have ``limits: …``.
    """
    listed = limits()
    kinds: dict[str, Any] = dict.fromkeys(listed, float | None)
    words = "".join(f"    {name}: {limit.about}\n" for name, (_, limit) in listed.items())
    doc = inspect.getdoc(function) or ""
    function.__doc__ = re.sub(r"^    limits: .*\n", lambda _: words, doc, flags=re.MULTILINE)
    signature = inspect.signature(function)
    declared = [entry for entry in signature.parameters.values() if entry.kind is not entry.VAR_KEYWORD]
    first = [entry for entry in declared if entry.kind is not entry.KEYWORD_ONLY]
    optional = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in kinds.items()
    ]
    annotations = {entry.name: function.__annotations__[entry.name] for entry in declared}
    function.__annotations__ = annotations | kinds | {"return": function.__annotations__["return"]}
    parameters = [*first, *optional, *declared[len(first) :]]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
