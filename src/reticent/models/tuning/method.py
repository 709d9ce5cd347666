# SPDX-License-Identifier: Apache-2.0
"""What a tuning method is: a function that takes a model and marks (or adds) the parameters that are trained."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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
    """

    name: str
    function: Function
    learning_rate: float
    storage: Storage
    paper: str

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """Hyper-parameters and their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def __call__(self, model: Any, **params: Any) -> Any:
        """Apply it to ``model``, which is changed in place.

        Raises:
            BadInput: a hyper-parameter that the method does not have, or a model that it cannot be used on (what is
                added to a model is tried out on a few tokens).
        """
        unknown = sorted(set(params) - set(self.defaults))
        if unknown:
            known = ", ".join(self.defaults) or "none"
            raise BadInput(f"{self.name}: {unknown[0]!r}", "is no parameter of this method", f"It has: {known}.")
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        tuned = self.function(model, **params)
        if not any(parameter.requires_grad for parameter in tuned.parameters()):
            raise BadInput(f"method {self.name!r}", "trains nothing in this model", "Choose another method.")
        if self.storage != "weights":
            try_out(tuned, self.name)
        return tuned


TUNINGS: Registry[Tuning] = Registry("tuning method", "reticent.models.tuning")


def tuning(
    name: str, *, learning_rate: float, storage: Storage = "weights", paper: str = ""
) -> Callable[[Function], Function]:
    """Register a tuning method. The function gets a model of which nothing is trained yet."""

    def register(function: Function) -> Function:
        TUNINGS.add(
            name, Tuning(name=name, function=function, learning_rate=learning_rate, storage=storage, paper=paper)
        )
        return function

    return register


def trained_parameters(model: Any) -> int:
    """How many numbers are trained; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
