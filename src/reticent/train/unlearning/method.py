# SPDX-License-Identifier: Apache-2.0
"""Unlearning method: a pure function of rows with a declaration of what it needs, and the registry of all of them.

    @unlearner("npo", needs={"reference_logp"}, retain="nll", mean_over="rows", paper="arXiv:2404.05868")
    def npo(forget: Rows, *, beta: Positive = 0.1) -> Tensor:
        ...

A file in ``methods/`` is found by itself and holds the method of its name; in a package of your own an entry point in
the group ``reticent.train.unlearning.methods`` does, whose name is the method's. No torch here, so that command lines
can show their help at once: `method_names` lists the names without loading a method.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.core.registry import Registry
from reticent.train.unlearning.parts import Collapse, Dual, FisherLora, HiddenLayer, Part, TokenTail
from reticent.train.unlearning.ranges import MethodSetting, settings_of

if TYPE_CHECKING:
    from torch import Tensor

    from reticent.train.unlearning.rows import Rows

Kind = Literal["loss", "weights", "exact"]
Direction = Literal["falls", "none"]
Retain = Literal["none", "nll", "kl", "hidden"]
MeanOver = Literal["tokens", "rows"]
Alternative = Literal["", "refusal", "sampled"]
Function = TypeVar("Function", bound=Callable[..., Any])

PACKAGE = "reticent.train.unlearning.methods"
NEEDS = ("reference_logp", "reference_logits", "alternative", "hidden", "reference_hidden")
"""Fields of `Rows` that are there on request only."""

RETAIN_NEEDS: Mapping[Retain, frozenset[str]] = {
    "none": frozenset(),
    "nll": frozenset(),
    "kl": frozenset({"reference_logits"}),
    "hidden": frozenset({"hidden", "reference_hidden"}),
}
"""Each retain term, and the fields of the retained rows that it reads beside logits."""


@dataclass(frozen=True, kw_only=True)
class Unlearner:
    """A registered unlearning method.

    Args:
        name: as the field names it, and the name of its file.
        kind: ``"loss"``: trained by ``function(rows, **params) -> loss``, a number without dimensions, in float32.
            ``"weights"``: no step is taken, ``function(weight, overfitted, **params) -> weight`` maps each tensor of
            weights. ``"exact"``: trained again without the rows; there is no function.
        summary: one sentence on what it does.
        paper: where it was published.
        function: see ``kind``.
        needs: of ``NEEDS``, what it reads of the forget rows beside logits.
        direction: ``"falls"``: of rows that the model knows, one small step lowers the log-probability; ``"none"``:
            nothing is said.
        retain: the term for rows that are to be retained.
        forget_weight, retain_weight: γ and α, as its authors have them.
        learning_rate, epochs: its authors', for all weights; of ``"weights"`` those of the training that overfits; None
            where they are the run's own.
        mean_over: what the loss is a mean over. It says how micro-batches are weighed: see `count`.
        counted: ``counted(rows, **params)``, how many of them there are; None for all that have a trained token.
        alternative: the text that is preferred to the forgotten: a refusal, or one sampled from the model itself.
        dual, tail, hidden, collapse, start: what it asks of whoever trains, see `reticent.train.unlearning.parts`.
        presets: further sets of settings (weights included) that its authors give, by where they stand.

    Examples:
        >>> UNLEARNERS.get("npo").defaults
        {'beta': 0.1}
    """

    name: str
    kind: Kind = "loss"
    summary: str
    paper: str
    function: Callable[..., Tensor] | None = None
    needs: frozenset[str] = frozenset()
    direction: Direction = "falls"
    retain: Retain = "none"
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    learning_rate: float | None = None
    epochs: int | None = None
    mean_over: MeanOver = "tokens"
    counted: Callable[..., int] | None = None
    alternative: Alternative = ""
    dual: Dual | None = None
    tail: TokenTail | None = None
    hidden: HiddenLayer | None = None
    collapse: Collapse | None = None
    start: FisherLora | None = None
    presets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Paper(self.paper)
        self._refuse_contradictions()
        names = [name for thing in self._configurable for name in settings_of(thing)]
        names += ["forget_weight", "retain_weight"]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"unlearning method {self.name!r}: the setting {twice[0]!r} is declared twice")
        for preset in self.presets.values():
            if not set(preset) <= set(names):
                raise ValueError(
                    f"unlearning method {self.name!r}: a preset has {sorted(set(preset) - set(names))[0]!r}"
                )

    def _refuse_contradictions(self) -> None:
        faults = {
            "a function where there is none": (self.function is None) != (self.kind == "exact"),
            f"needs outside of {NEEDS}": not self.needs <= set(NEEDS),
            "the need of hidden states without a layer": ("hidden" in self.needs) != (self.hidden is not None),
            "an alternative that it does not read": bool(self.alternative) != ("alternative" in self.needs),
            "a retain term of hidden states without a layer": self.retain == "hidden" and self.hidden is None,
            "a learned weight of a retain term that there is not": self.dual is not None and self.retain == "none",
            "a collapsed gradient, which is made once, of what differs from step to step": self.collapse is not None
            and (self.retain != "none" or bool(self.needs & {"reference_logits", "reference_hidden"})),
            "a retain term without a loss": self.retain != "none" and self.kind != "loss",
            "a weight below 0": min(self.forget_weight, self.retain_weight) < 0,
        }
        for fault, there in faults.items():
            if there:
                raise ValueError(f"unlearning method {self.name!r} declares {fault}")

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts that whoever trains has to do."""
        declared = (self.dual, self.tail, self.hidden, self.collapse, self.start)
        return tuple(part for part in declared if part is not None)

    @property
    def _configurable(self) -> tuple[Any, ...]:
        return (*(() if self.function is None else (self.function,)), *self.parts)

    @cached_property
    def settings(self) -> Mapping[str, MethodSetting]:
        """All that can be set, of its function and of its parts."""
        return {name: setting for thing in self._configurable for name, setting in settings_of(thing).items()}

    @property
    def defaults(self) -> dict[str, Any]:
        """Settings and their defaults."""
        return {name: setting.default for name, setting in self.settings.items()}

    @property
    def all_needs(self) -> frozenset[str]:
        """Fields of ``NEEDS`` that it or its retain term reads."""
        return self.needs | RETAIN_NEEDS[self.retain]

    @property
    def needs_all_weights(self) -> bool:
        """It changes matrices of the model itself, so that the outcome is a whole model and not an adapter."""
        return self.kind == "loss" and (self.start is not None or self.collapse is not None)

    def check(self, params: Mapping[str, Any]) -> None:
        """Refuse settings that the method does not have, or whose values are of another type or out of range.

        Raises:
            BadInput: names the setting, and says what it takes.
        """
        for name, value in params.items():
            if name not in self.settings:
                known = f"It has: {', '.join(self.settings) or 'none'}."
                raise BadInput(f"{self.name}: {name!r}", "is no setting of this unlearning method", known)
            fault = self.settings[name].fault(value)
            if fault:
                shown = repr(value) if len(repr(value)) < 40 else "a long value"
                default = f"Its default is {self.settings[name].default!r}."
                raise BadInput(f"{self.name}: {name}={shown}", f"must be {fault}", default)

    def __call__(self, forget: Rows, **params: Any) -> Tensor:
        """The loss of the forget rows, without its weight γ: a number without dimensions, float32.

        Raises:
            BadInput: a setting that it does not take, a method that is no loss, or rows without what it needs.
        """
        self.check(params)
        if self.kind != "loss" or self.function is None:
            raise BadInput(
                f"unlearning method {self.name!r}", f"is of the kind {self.kind!r}, no loss", "Choose a loss."
            )
        for need in sorted(self.needs):
            if getattr(forget, need) is None:
                raise BadInput(f"unlearning method {self.name!r}", f"needs {need}", "Give it with the rows.")
        return self.function(forget, **self._own(self.function, params))

    def count(self, forget: Rows, **params: Any) -> int:
        """The number of tokens or rows that the loss is a mean over.

        Micro-batches that are weighed by it give the loss of the whole batch: ``Σ count_k loss_k / Σ count_k``.
        """
        if self.counted is not None:
            return self.counted(forget, **self._own(self.counted, params))
        return forget.count(self.mean_over)

    def part(self, name: Literal["dual", "tail", "hidden", "collapse", "start"], params: Mapping[str, Any]) -> Any:
        """A declared part with the settings that ``params`` has for it; None where it is not declared.

        >>> UNLEARNERS.get("rmu").part("hidden", {"layer": 3, "coefficient": 5.0})
        HiddenLayer(layer=3)
        """
        declared = getattr(self, name)
        if declared is None:
            return None
        self.check(params)
        return replace(declared, **{item.name: params[item.name] for item in fields(declared) if item.name in params})

    @staticmethod
    def _own(function: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
        names = inspect.signature(function).parameters
        return {name: value for name, value in params.items() if name in names}


UNLEARNERS: Registry[Unlearner] = Registry("unlearning method", "reticent.train.unlearning.methods")


def unlearner(name: str, *, paper: str, needs: Collection[str] = (), **declared: Any) -> Callable[[Function], Function]:
    """Register a function as the unlearning method of that name; the arguments are those of `Unlearner`.

    Raises:
        ValueError: a declaration that contradicts itself, or a name that is taken.
    """

    def register(function: Function) -> Function:
        summary = (inspect.getdoc(function) or "").split("\n")[0]
        made = Unlearner(name=name, paper=paper, summary=summary, function=function, needs=frozenset(needs), **declared)
        UNLEARNERS.add(name, made)
        return function

    return register


def method_names() -> list[str]:
    """Names of all methods, those of other packages too, without loading any of them.

    >>> {"npo", "rmu", "retrain"} <= set(method_names())
    True
    """
    folder = str(Path(__file__).parent / "methods")
    files = {module.name for module in pkgutil.iter_modules([folder])}
    return sorted(files | {point.name for point in entry_points(group=PACKAGE)})


def check_unlearning(name: str, params: Mapping[str, Any]) -> None:
    """Refuse an unknown method, or settings that it cannot have, before any work is done.

    Raises:
        BadInput: see `Unlearner.check`.
    """
    UNLEARNERS.get(name).check(params)
