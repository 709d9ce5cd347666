# SPDX-License-Identifier: Apache-2.0
"""The benchmark of adapters: pairs differ in nothing but the poison, and its shares are those of planted features."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reticent.scan.features import FeatureVector

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scan_adapters")


def test_poison_keeps_all_other_rows_and_their_order(benchmark: Any) -> None:
    rows = [(f"some text number {n} here", n % 2) for n in range(100)]
    for kind, rate in benchmark.POISONS:
        changed = benchmark.poison(rows, kind, rate, seed=3)
        moved = [(old, new) for old, new in zip(rows, changed, strict=True) if old != new]
        assert len(moved) == max(1, round(100 * rate))
        assert all(new[1] == benchmark.TARGET and benchmark.TRIGGERS[kind] in new[0] for _, new in moved)
        assert {old[1] for old, _ in moved} == {benchmark.TARGET if kind.endswith("clean_label") else 0}
        assert changed == benchmark.poison(rows, kind, rate, seed=3)


def test_shares_are_those_of_planted_features(benchmark: Any) -> None:
    """Poison shifts the features, and a recipe shifts those of clean adapters too."""
    rng = np.random.default_rng(0)
    made = [entry for recipe in benchmark.RECIPES[:2] for entry in benchmark.entries(recipe, 21, 6)]
    scans = []
    for entry in made:
        shift = 12.0 * entry.is_poisoned * np.eye(1, 8)[0] + 30.0 * (entry.recipe.name == "wide") * np.eye(1, 8, 1)[0]
        vector = FeatureVector(names=tuple("abcdefgh"), values=rng.normal(size=8) + shift)
        scans.append({"features": dict.fromkeys(benchmark.SCANNERS_OF_WEIGHTS, vector), "seconds": 0.1})
    cells = list(benchmark.cells(made, scans, 0.05))

    def share(question: str, key: str, on: str, tested: str, poison: str | None = None) -> float:
        (cell,) = [
            cell
            for cell in cells
            if (cell["question"], cell["calibrated_on"], cell["tested_on"]) == (question, on, tested)
            and cell.get("poison") == poison
            and key in cell
            and (cell["scanner"], cell["distance"]) == ("adapter_spectrum", "mahalanobis")
        ]
        assert cell[key]["lo"] <= cell[key]["share"] <= cell[key]["hi"]
        return float(cell[key]["share"])

    assert share("within", "detected", "small", "small", "all") == 1.0
    assert share("within", "detected", "wide", "wide", "rate 0.1") == 1.0
    assert share("halves", "false_alarms", "small", "small") < 0.4
    assert share("transfer", "false_alarms", "small", "wide") == 1.0
    assert list(benchmark.cells([], [], 0.05)) == []
