# SPDX-License-Identifier: Apache-2.0
"""Tuning methods: a method is a function that takes a model and marks (or adds) the parameters that are trained."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.registry import Registry
from reticent.models.try_out import try_out
from reticent.models.tuned import Storage

Function = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A registered tuning method.

    Args:
        name: as the field names it.
        function: ``function(model, **params) -> model`` with ``requires_grad`` set on what is trained.
        learning_rate: what AdamW starts from when nobody says otherwise.
        storage: how the result is saved (see ``models.tuned.Storage``).
        paper: where it was published.
        holds_base: the base that it is put on may lie in 16 bits (`models.held_weights`): nothing of it is trained, and
            nothing is made in its dtype.
    """

    name: str
    function: Function
    learning_rate: float
    storage: Storage
    paper: str
    holds_base: bool = False

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """Hyper-parameters and their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def check(self, params: Mapping[str, Any]) -> None:
        """Refuse hyper-parameters that the method does not have, or whose values are of another kind than its own.

        Whole numbers are counts (a rank, a length, a divisor), of which more than ``MOST`` mean a slip of the finger.

        Raises:
            BadInput: a name, a type, a number that is not finite, or a count out of range.
        """
        unknown = sorted(set(params) - set(self.defaults))
        if unknown:
            names = ", ".join(self.defaults) or "none"
            raise BadInput(f"{self.name}: {unknown[0]!r}", "is no parameter of this method", f"It has: {names}.")
        for name, value in params.items():
            wrong = _wrong(value, self.defaults[name])
            if wrong:
                default = f"Its default is {self.defaults[name]!r}."
                raise BadInput(f"{self.name}: {name}={value!r}", f"must be {wrong}", default)

    def __call__(self, model: Any, **params: Any) -> Any:
        """Apply it to ``model``, which is changed in place.

        Raises:
            BadInput: a hyper-parameter that the method does not have, or a model that it cannot be used on (what is
                added to a model is tried out on a few tokens).
        """
        self.check(params)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        tuned = self.function(model, **params)
        if not any(parameter.requires_grad for parameter in tuned.parameters()):
            raise BadInput(f"method {self.name!r}", "trains nothing in this model", "Choose another method.")
        if self.storage != "weights":
            try_out(tuned, self.name)
        return tuned


MOST = 4096


def _wrong(value: Any, default: Any) -> str:
    """The kind that ``value`` should have, as the default has it; empty where it has it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int) and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST):
        return f"a whole number from 1 to {MOST}"
    if isinstance(default, float) and not (number and math.isfinite(value)):
        return "a finite number"
    words = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if isinstance(default, str) and not (isinstance(value, str) or words):
        return "a name, or a list of names"
    if default is None and not (value is None or words or isinstance(value, str)):
        return "a list of names"
    listed = isinstance(value, list | tuple)
    whole = listed and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    if isinstance(default, tuple) and not whole:
        return "a list of whole numbers"
    return ""


def check_method(name: str, params: Mapping[str, Any]) -> None:
    """Refuse an unknown method, or hyper-parameters that it cannot have, before any work is done.

    Raises:
        BadInput: see `Tuning.check`.
    """
    TUNINGS.get(name).check(params)


TUNINGS: Registry[Tuning] = Registry("tuning method", "reticent.models.tuning")


def tuning(
    name: str, *, learning_rate: float, storage: Storage = "weights", paper: str = "", holds_base: bool = False
) -> Callable[[Function], Function]:
    """Register a tuning method. The function gets a model of which nothing is trained yet."""

    def register(function: Function) -> Function:
        method = Tuning(
            name=name,
            function=function,
            learning_rate=learning_rate,
            storage=storage,
            paper=paper,
            holds_base=holds_base,
        )
        TUNINGS.add(name, method)
        return function

    return register


def trained_parameters(model: Any) -> int:
    """How many numbers are trained; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
