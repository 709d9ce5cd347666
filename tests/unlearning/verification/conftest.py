# SPDX-License-Identifier: Apache-2.0
"""Tiny models that know, never knew, hide or over-unlearned the forget rows; made once for all tests here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reticent.core.unlearning import RETRAINED, UnlearningResults
from reticent.testing.unlearned import KINDS, MAX_TOKENS, KnownRows, made, number_rows, save, save_base, trained
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.look_into import ModelReadings, judge, read_models, verify

ROWS = number_rows(forget=60, unseen=120, retain=30)
ORACLES = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Zoo:
    """Folders of models, and the cache that all tests share."""

    root: Path
    rows: KnownRows
    folders: dict[str, str]

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def case(self, kind: str, **changes: Any) -> VerificationCase:
        """A case with the model of that kind as the unlearned one."""
        case = VerificationCase(
            title="tiny",
            after=self.folders[kind],
            before=self.folders["untouched"],
            base=self.folders["base"],
            retrained=[self.folders[f"oracle {number}"] for number in range(ORACLES)],
            forget=self.rows.forget,
            unseen=self.rows.unseen,
            retain=self.rows.retain,
            max_tokens=MAX_TOKENS,
        )
        return replace(case, **changes)

    def verify(self, kind: str, settings: dict[str, Any] | None = None, **changes: Any) -> UnlearningResults:
        """The whole way, with models."""
        return verify(self.case(kind, **changes), settings_of(settings), cache=self.cache)


def settings_of(changes: dict[str, Any] | None = None) -> VerifyConfig:
    return VerifyConfig(**({"dtype": "float32", "margin": 0.19} | (changes or {})))


def fill(root: Path) -> None:
    """Train all models, one thread each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = trained([*ROWS.forget, *ROWS.retain], seed=0)
    save_base(root / "base")
    for kind in KINDS:
        save(made(kind, ROWS, before=before, seed=1), root / kind)
    for number in range(ORACLES):
        save(trained(ROWS.retain, seed=2 + number), root / f"oracle {number}")
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def zoo(once_a_run: Callable[[str, Callable[[Path], None]], Path]) -> Zoo:
    root = once_a_run("unlearned", fill)
    names = ["base", *KINDS, *(f"oracle {number}" for number in range(ORACLES))]
    return Zoo(root=root, rows=ROWS, folders={name: str(root / name) for name in names})


@pytest.fixture(scope="session")
def readings(zoo: Zoo) -> Callable[[str], ModelReadings]:
    """Readings of each kind at the defaults, made when they are first asked for."""
    made_readings: dict[str, ModelReadings] = {}

    def of(kind: str) -> ModelReadings:
        if kind not in made_readings:
            made_readings[kind] = read_models(zoo.case(kind), settings_of(), zoo.cache)
        return made_readings[kind]

    return of


@pytest.fixture(scope="session")
def judged(readings: Callable[[str], ModelReadings]) -> Callable[..., UnlearningResults]:
    """Results of a kind without running a model again: with other settings, other owners, or without oracles."""

    def of(
        kind: str, settings: dict[str, Any] | None = None, *, oracles: bool = True, **changes: Any
    ) -> UnlearningResults:
        reading = readings(kind)
        models = reading.models if oracles else tuple(model for model in reading.models if model.role != RETRAINED)
        return judge(replace(reading, models=models, case=replace(reading.case, **changes)), settings_of(settings))

    return of
