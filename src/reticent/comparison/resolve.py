# SPDX-License-Identifier: Apache-2.0
"""From flags and a preset to the grid and what all of its cells have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from reticent.auditing.config import AuditConfig
from reticent.comparison.config import CompareConfig, numbers
from reticent.comparison.defences import DEFENCES, parse_defences
from reticent.comparison.grid import Grid, Method, parse_methods
from reticent.comparison.presets.preset import PRESETS, Study
from reticent.comparison.trial import TrialSettings
from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.monitor.config import MonitorConfig
from reticent.train.config import TuneConfig

T = TypeVar("T", SplitConfig, CanaryConfig)
EPOCHS = 3
NO_SMALL = "Emulation was left out: only a smaller model of the same tokenizer can steer {model} (--small_base)."
LARGEST_SEED = 2**32 - 1


def resolve(
    config: CompareConfig, *, model: str, split: SplitConfig, canaries: CanaryConfig
) -> tuple[Grid, TrialSettings]:
    """The grid and settings that were asked for. Flags win over the preset; the preset wins over defaults.

    Raises:
        BadInput: an unknown preset, defence or a broken list.
    """
    study = PRESETS.get(config.preset).study if config.preset else _plain()
    grid, left_out = _with_small(_grid(config, study), config, model)
    shared = TrialSettings(
        base=model,
        audit=None if study.audit is None else AuditConfig(**study.audit, device=config.device),
        small_base=config.small_base if any(defence.emulates for defence in grid.defences) else "",
        left_out=left_out,
        split=_with(split, study.split),
        canaries=_with(canaries, study.canaries),
        training=TuneConfig(
            epochs=config.epochs or study.epochs,
            batch_size=config.batch_size,
            max_tokens=config.max_tokens,
            dtype=config.dtype,
            device=config.device,
        ),
        monitor=MonitorConfig(monitor=True, monitor_panel=config.panel, monitor_every=config.every),
        keep_models=config.keep_models,
    )
    return grid, shared


def _with_small(grid: Grid, config: CompareConfig, model: str) -> tuple[Grid, tuple[str, ...]]:
    """The grid, without the emulation that a preset asks for where there is no small model; and what was left out."""
    emulated = [defence for defence in grid.defences if defence.emulates]
    if config.small_base and not emulated:
        raise BadInput(
            f"small_base={config.small_base}",
            "is tuned by no defence of this grid",
            "Add --defences none,emulate1, or leave it out.",
        )
    if not emulated or config.small_base:
        return grid, ()
    if config.defences:
        raise BadInput(
            f"defences={config.defences}",
            f"{model} is steered by a small model, and none is given",
            "Give a smaller model of the same tokenizer (--small_base).",
        )
    left = tuple(defence for defence in grid.defences if not defence.emulates)
    return replace(grid, defences=left), (NO_SMALL.format(model=Path(model).name),)


NO_SMALL = (
    "Emulation was left out: {model} can only be steered by a smaller model of the same tokenizer (--small_base)."
)


def _grid(config: CompareConfig, study: Study) -> Grid:
    grid = study.grid
    rates = numbers(config.learning_rates, "learning_rates") if config.learning_rates else ()
    for rate in rates:
        validate.positive(learning_rates=rate)
    if config.methods:
        grid = replace(grid, methods=parse_methods(config.methods, rates))
    elif rates:
        methods = [replace(method, learning_rates=tuple(sorted(rates))) for method in grid.methods]
        grid = replace(grid, methods=tuple(methods))
    if config.defences:
        grid = replace(grid, defences=parse_defences(config.defences))
    if config.lr_scheduler_types:
        grid = replace(grid, schedules=tuple(name.strip() for name in config.lr_scheduler_types.split(",")))
    if config.seeds:
        seeds = numbers(config.seeds, "seeds")
        if any(seed != int(seed) for seed in seeds if abs(seed) < LARGEST_SEED):
            raise BadInput(f"seeds={config.seeds!r}", "are no whole numbers", "Give whole numbers, such as 0,1.")
        for seed in seeds:
            validate.in_range(-1, LARGEST_SEED, seeds=seed)
        grid = replace(grid, seeds=tuple(map(int, seeds)))
    return grid


def _plain() -> Study:
    grid = Grid(methods=(Method(method="full"), Method(method="lora")), defences=(DEFENCES["none"],), seeds=(0, 1))
    return Study(grid=grid, epochs=EPOCHS)


def _with(given: T, wanted: dict[str, Any]) -> T:
    """The study's fields where the person left theirs at the defaults."""
    default = type(given)()
    return replace(
        given, **{name: value for name, value in wanted.items() if getattr(given, name) == getattr(default, name)}
    )
