# SPDX-License-Identifier: Apache-2.0
"""The registry of the red team's attacks: one a file, from a base and records to a poisoned model and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


KINDS: Registry[RedteamKind] = Registry("red-team attack", "reticent.redteam.kinds")
