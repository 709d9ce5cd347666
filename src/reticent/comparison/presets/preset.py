# SPDX-License-Identifier: Apache-2.0
"""A preset: a study that the registry finds by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reticent.comparison.grid import Grid
from reticent.core.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Study:
    """A grid and the settings that belong to it.

    Args:
        grid: methods may leave their learning rates to the defaults.
        epochs: of each training.
        split, canaries: fields of `SplitConfig` and `CanaryConfig`, used where the person left theirs at the defaults.
        audit: fields of `AuditConfig` by which each finished model is audited; None for not at all.
    """

    grid: Grid
    epochs: int = 3
    split: dict[str, Any] = field(default_factory=dict)
    canaries: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A registered study.

    Args:
        name: what people type.
        paper: what it repeats.
        study: what it is.
        about: in a line.
    """

    name: str
    paper: str
    study: Study
    about: str


PRESETS: Registry[Preset] = Registry("preset", "reticent.comparison.presets")


def preset(name: str, *, paper: str = "") -> Callable[[Callable[[], Study]], Callable[[], Study]]:
    """Register a function without arguments as a study."""

    def register(function: Callable[[], Study]) -> Callable[[], Study]:
        about = (function.__doc__ or "").split("\n")[0]
        PRESETS.add(name, Preset(name=name, paper=paper, study=function(), about=about))
        return function

    return register
