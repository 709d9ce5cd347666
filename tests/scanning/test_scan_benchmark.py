# SPDX-License-Identifier: Apache-2.0
"""The benchmark of adapters: pairs differ in nothing but the poison, and its shares are those of planted features."""

from __future__ import annotations

import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reticent.scanning.features import FeatureVector

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


def test_groups_of_other_tasks_are_calibrated_on_and_left_out_by_name(benchmark: Any) -> None:
    """Each task moves all of its adapters: what was calibrated on others raises an alarm on every clean one."""
    rng = np.random.default_rng(1)
    tasks = [benchmark.TASKS[name] for name in ("sst2", "lists", "subjects")]
    made = [entry for task in tasks for entry in benchmark.entries(benchmark.RECIPES[0], 10, 1, task)]
    assert len({entry.name for entry in made}) == len(made) == 33
    assert made[0].name == "small-000-clean", "zoos of earlier calls are gone on with"
    scans = []
    for entry in made:
        shift = 9.0 * tasks.index(entry.task) * np.eye(1, 4)[0]
        vector = FeatureVector(names=tuple("abcd"), values=rng.normal(size=4) + shift)
        scans.append({"features": dict.fromkeys(benchmark.SCANNERS_OF_WEIGHTS, vector), "seconds": 0.1})
    cells = list(benchmark.cells(made, scans, 0.1))
    moved = [cell for cell in cells if cell["question"] == "transfer" and "false_alarms" in cell]
    assert {cell["changed"] for cell in moved} == {"task"}
    assert all(cell["false_alarms"]["share"] == 1.0 for cell in moved if cell["distance"] == "mahalanobis")
    rest = [cell for cell in cells if cell["question"] == "rest" and "false_alarms" in cell]
    assert {cell["tested_on"] for cell in rest} == {"small", "lists-small", "subjects-small"}
    assert len(rest) == 3 * len({(cell["scanner"], cell["distance"]) for cell in cells})


def test_tasks_split_by_document_and_are_balanced(benchmark: Any, tmp_path: Path) -> None:
    tasks = importlib.import_module("scan_tasks")
    (tmp_path / "spamassassin").mkdir()
    (tmp_path / "synth_attributes").mkdir()
    words = [f"d{number} " * 33 for number in range(60)]
    with gzip.open(tmp_path / "spamassassin" / "ham_by_sender.jsonl.gz", "wt", encoding="utf-8") as file:
        for number, text in enumerate(words):
            name = tasks.LISTS[number % 3 == 0] if number % 7 else "other"
            body = f"> quoted\nme@example.org\n{text}\n-- \nsigned"
            file.write(json.dumps({"list": f"A list <{name}>", "body": body}) + "\n")
    features = [tasks.SUBJECTS[number % 2][0] for number in range(59)] + ["income_level"]
    rows = [json.dumps({"feature": feature, "response": text}) for feature, text in zip(features, words, strict=True)]
    path = tmp_path / "synth_attributes" / "llmprivacy_synthetic_dataset.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    for name in ("lists", "subjects"):
        train, test = tasks.TASKS[name].read(tmp_path)
        assert train
        assert test
        for pairs in (train, test):
            assert 2 * sum(label for _, label in pairs) == len(pairs)
            assert all(len(text.split()) == tasks.CHUNK for text, _ in pairs)
            assert not any("quoted" in text or "@" in text or "signed" in text for text, _ in pairs)
        assert not {text.split()[0] for text, _ in train} & {text.split()[0] for text, _ in test}
        record = tasks.TASKS[name].record(0, *train[0])
        assert train[0][0] in (record.prompt or "")
        assert record.completion in tasks.TASKS[name].words
