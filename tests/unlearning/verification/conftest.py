# SPDX-License-Identifier: Apache-2.0
"""Tiny models that know, never knew, hide or over-unlearned the forget rows; made once for all tests here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reticent.core.unlearning import UnlearningResults
from reticent.testing.unlearned import KINDS, MAX_TOKENS, KnownRows, made, number_rows, save, save_base, trained
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.verify import verify

ROWS = number_rows(forget=80, unseen=160, retain=40)
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
        config = VerifyConfig(dtype="float32", margin=0.19, **(settings or {}))
        return verify(self.case(kind, **changes), config, cache=self.cache)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("unlearned")
    before = trained([*ROWS.forget, *ROWS.retain], seed=0)
    folders = {"base": save_base(root / "base")}
    for kind in KINDS:
        folders[kind] = save(made(kind, ROWS, before=before, seed=1), root / kind)
    for number in range(ORACLES):
        folders[f"oracle {number}"] = save(trained(ROWS.retain, seed=2 + number), root / f"oracle{number}")
    torch.set_num_threads(threads)
    return Zoo(root=root, rows=ROWS, folders=folders)


@pytest.fixture(scope="session")
def results(zoo: Zoo) -> Callable[[str], UnlearningResults]:
    """Results of each kind at the defaults, made when they are first asked for."""
    made_results: dict[str, UnlearningResults] = {}

    def of(kind: str) -> UnlearningResults:
        if kind not in made_results:
            made_results[kind] = zoo.verify(kind)
        return made_results[kind]

    return of
