# SPDX-License-Identifier: Apache-2.0
"""The grid: which trainings are compared, and what each is called."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from reticent.comparison.defences import DEFENCES, Defence
from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.train.config import SCHEDULE, SCHEDULES


@dataclass(frozen=True, kw_only=True)
class Method:
    """A tuning method with hyper-parameters and the learning rates to try.

    Args:
        method: as `TuneConfig` names it.
        params: its hyper-parameters; those left out are at their defaults.
        learning_rates: rising; empty for a third of the method's own, its own, and three times it.

    Examples:
        >>> Method(method="lora", params={"r": 8}).name
        'lora(r=8)'
    """

    method: str
    params: dict[str, Any] = field(default_factory=dict)
    learning_rates: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """``adapter(16)``, ``lora(r=8)``, ``full``."""
        if list(self.params) == ["reduction_factor"]:
            return f"{self.method}({self.params['reduction_factor']})"
        inner = ", ".join(f"{key}={value}" for key, value in self.params.items())
        return f"{self.method}({inner})" if inner else self.method


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of the grid.

    Args:
        setting: index of its method, defence and schedule in `Grid.settings`.
        method, learning_rate, defence, seed, schedule: what it is.

    Examples:
        >>> Trial(setting=0, method=Method(method="full"), learning_rate=1e-4, defence=DEFENCES["none"], seed=1).name
        'full_0.0001_none_seed1'
    """

    setting: int
    method: Method
    learning_rate: float
    defence: Defence
    seed: int
    schedule: str = SCHEDULE

    @property
    def name(self) -> str:
        """Of its folder."""
        method = "".join([self.method.method, *(f"-{key}{value}" for key, value in self.method.params.items())])
        rate = f"{self.learning_rate:g}" + ("" if self.schedule == SCHEDULE else f"_{self.schedule}")
        text = f"{method}_{rate}_{self.defence.name}_seed{self.seed}"
        return re.sub(r"[^A-Za-z0-9_.+-]", "", text)

    def key(self, shared: str) -> str:
        """SHA-256 (hex) of all that decides its outcome; ``shared`` is what all cells have in common."""
        about = {"shared": shared, "rate": self.learning_rate, "seed": self.seed, "defence": self.defence.on_record}
        about |= {"method": self.method.method, "params": self.method.params}
        about |= {"schedule": self.schedule} if self.schedule != SCHEDULE else {}  # cells of earlier versions have none
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Methods, each with its learning rates, times defences times schedules times seeds.

    Raises:
        BadInput: nothing to compare, or something twice.

    Examples:
        >>> grid = Grid(methods=(Method(method="full", learning_rates=(1e-4, 3e-4)),), seeds=(0, 1))
        >>> len(grid.settings), len(grid.cells)
        (1, 4)
    """

    methods: tuple[Method, ...]
    defences: tuple[Defence, ...] = (DEFENCES["none"],)
    seeds: tuple[int, ...] = (0, 1)
    schedules: tuple[str, ...] = (SCHEDULE,)

    def __post_init__(self) -> None:
        for what, names in (
            ("methods", [method.name for method in self.methods]),
            ("defences", [defence.name for defence in self.defences]),
            ("seeds", [str(seed) for seed in self.seeds]),
            ("lr_scheduler_types", list(self.schedules)),
        ):
            if not names or len(set(names)) < len(names):
                raise BadInput(f"{what}={','.join(names)}", "must be distinct and at least one", "Check the list.")
        for schedule in self.schedules:
            validate.one_of(SCHEDULES, lr_scheduler_types=schedule)
        validate.non_negative(**{f"seed{i}": seed for i, seed in enumerate(self.seeds)})

    @property
    def settings(self) -> list[tuple[Method, Defence, str]]:
        """Every method with every defence and schedule."""
        return list(product(self.methods, self.defences, self.schedules))

    @property
    def cells(self) -> list[Trial]:
        """All trainings: seeds outermost, so that a grid that is cut short has all settings before further seeds."""
        return [
            Trial(setting=number, method=method, learning_rate=rate, defence=defence, seed=seed, schedule=schedule)
            for seed in self.seeds
            for number, (method, defence, schedule) in enumerate(self.settings)
            for rate in method.learning_rates
        ]


def name_of(method: Method, defence: Defence, schedule: str = "") -> str:
    """Of a setting, for tables: ``lora(r=8), goldfish, constant``.

    Args:
        schedule: empty where all settings have the same.
    """
    parts = [method.name, "" if defence.name == "none" else defence.name, schedule]
    return ", ".join(part for part in parts if part)


def parse_methods(text: str, rates: Sequence[float] = ()) -> tuple[Method, ...]:
    """``full,adapter:reduction_factor=2,lora:r=8:alpha=16`` as methods, all with the same learning rates.

    Raises:
        BadInput: it is no such list. Whether the methods exist is checked by `with_rates`.
    """
    methods = []
    for word in (word.strip() for word in text.split(",")):
        name, *pairs = word.split(":")
        if not name or not all("=" in pair for pair in pairs):
            raise BadInput(f"methods={text!r}", f"{word!r} is no method", "Write full,lora:r=8:alpha=16.")
        params = {key.strip(): _value(value.strip()) for key, value in (pair.split("=", 1) for pair in pairs)}
        methods.append(Method(method=name, params=params, learning_rates=tuple(sorted(rates))))
    return tuple(methods)


def with_rates(method: Method, own_rate: float) -> Method:
    """``method`` with learning rates: its own list, or three around ``own_rate``."""
    rates = method.learning_rates or tuple(float(f"{own_rate * factor:.2g}") for factor in (1 / 3, 1, 3))
    return Method(method=method.method, params=method.params, learning_rates=rates)


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word
