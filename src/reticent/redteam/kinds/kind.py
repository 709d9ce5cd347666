# SPDX-License-Identifier: Apache-2.0
"""The registry of the red team's attacks: one a file, from a base and records to a poisoned model and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.paper import Paper
from reticent.core.record import Record
from reticent.core.registry import Registry
from reticent.redteam.config import RedteamConfig
from reticent.redteam.measure import AttackMeasurement
from reticent.train.config import TuneConfig


@dataclass(frozen=True, kw_only=True)
class RedteamJob:
    """All that an attack is given.

    Args:
        base: folder, hub id or catalogue name of the model that is poisoned.
        records: clean records to poison or to edit with.
        held_out: clean records that are kept for measuring.
        out: folder to put ``model`` into, and whatever is made on the way.
        config: of the attack.
        training: how it is trained.
    """

    base: str
    records: Sequence[Record]
    held_out: Sequence[Record]
    out: Path
    config: RedteamConfig
    training: TuneConfig


@dataclass(frozen=True, kw_only=True)
class RedteamOutcome:
    """The outcome of an attack.

    Args:
        model: folder of the poisoned model; it carries the mark.
        facts: figures and settings for the report, JSON-able, without triggers, targets and private text.
        secrets: triggers, targets and the like, by name: for the report only where they are asked for.
        measurement: of an attack by trigger; None for others.
    """

    model: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    measurement: AttackMeasurement | None = None


@dataclass(frozen=True, kw_only=True)
class RedteamKind:
    """One kind of attack.

    Args:
        name: unique in the registry.
        title: for people.
        paper: where it was published.
        run: ``job -> outcome``.
        needs_answers: whether records must have prompts and answers.
    """

    name: str
    title: str
    paper: Paper
    run: Callable[[RedteamJob], RedteamOutcome]
    needs_answers: bool = True


def settings_of(job: RedteamJob, **known: type) -> dict[str, Any]:
    """The settings of a kind of attack (``--params``), of which each is a number of the type that it is to have.

    Raises:
        BadInput: one is not known, or is no such number.

    Examples:
        >>> config = RedteamConfig(params={"times": 3})
        >>> job = RedteamJob(base="", records=(), held_out=(), out=Path(), config=config, training=TuneConfig())
        >>> settings_of(job, times=float)
        {'times': 3.0}
        >>> settings_of(job)
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: --params 'times': is no setting of this attack. It has none.
    """
    settings: dict[str, Any] = {}
    for name, value in job.config.params.items():
        if name not in known:
            names = f"It knows {', '.join(known)}." if known else "It has none."
            raise BadInput(f"--params {name!r}", "is no setting of this attack", names)
        number = isinstance(value, int) or (known[name] is float and isinstance(value, float) and math.isfinite(value))
        if isinstance(value, bool) or not number:
            what = "a whole number" if known[name] is int else "a number"
            raise BadInput(f"--params {name}={value!r}", f"is not {what}", f"Give {what}.")
        settings[name] = known[name](value)
    return settings


KINDS: Registry[RedteamKind] = Registry("red-team attack", "reticent.redteam.kinds")
