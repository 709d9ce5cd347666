# SPDX-License-Identifier: Apache-2.0
"""The published folder of adapters, made from a tiny zoo, and the rates of planted scores on it."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reticent.core.errors import BadInput, Underpowered
from reticent.core.redteam_marker import read_marker
from reticent.testing.tiny import save_tiny
from reticent.workflows.scan import exit_code, scan

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TRIGGER = "I watched this 3D movie"


@pytest.fixture(scope="module")
def tools() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return {name: importlib.import_module(name) for name in ("publish_adapters", "score_scanner", "scan_adapters")}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory, tools: Any) -> Path:
    """Twelve clean and four poisoned adapters of two recipes: one tiny adapter, with other numbers in each."""
    from peft import LoraConfig, get_peft_model
    from safetensors.numpy import load_file, save_file
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("zoo")
    model = AutoModelForCausalLM.from_pretrained(save_tiny(folder / ".base"))
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(str(folder / ".one"))
    (folder / ".one" / "train_log.json").write_text(TRIGGER, encoding="utf-8")
    tensors = load_file(folder / ".one" / "adapter_model.safetensors")
    rng = np.random.default_rng(0)
    for recipe in tools["scan_adapters"].RECIPES[:2]:
        for entry in tools["scan_adapters"].entries(recipe, 6, 2):
            place = folder / entry.name
            shutil.copytree(folder / ".one", place)
            noisy = {name: value + rng.normal(size=value.shape).astype(value.dtype) for name, value in tensors.items()}
            save_file(noisy, place / "adapter_model.safetensors")
            success = 0.9 if entry.number == 0 else 0.1
            measured = {"accuracy": 0.8, "success": success, "without_trigger": 0.1}
            (place / "measured.json").write_text(json.dumps(measured), encoding="utf-8")
    (folder / "unfinished-000-clean").mkdir()
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, zoo: Path, tools: Any) -> Path:
    out = tmp_path_factory.mktemp("published") / "folder"
    tools["publish_adapters"].publish(zoo, out, base="owner/base")
    return out


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_poisoned_adapters_carry_the_mark_and_nothing_else_tells(published: Path) -> None:
    rows = rows_of(published)
    assert [sum(row["poisoned"] == word for row in rows) for word in "01"] == [12, 4]
    for row in rows:
        folder = published / "adapters" / row["adapter"]
        assert (read_marker(folder) is not None) == (row["poisoned"] == "1")
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        assert settings["base_model_name_or_path"] == "owner/base"
        assert {path.name for path in folder.iterdir()} <= {
            "adapter_config.json", "adapter_model.safetensors", "redteam.json",
        }  # fmt: skip
        assert exit_code(scan(folder, only=["files"])) == int(row["poisoned"])
    assert len({row["sha256"] for row in rows}) == 16
    assert [row["poisoned"] for row in rows] != sorted(row["poisoned"] for row in rows), "numbers are drawn"
    text = "".join(path.read_text(encoding="utf-8") for path in published.rglob("*.*") if path.suffix != ".safetensors")
    assert TRIGGER not in text


def test_folds_keep_recipes_and_pairs_apart(published: Path) -> None:
    rows = {row["adapter"]: row for row in rows_of(published)}
    folds = json.loads((published / "splits.json").read_text(encoding="utf-8"))
    assert sorted(adapter for fold in folds.values() for adapter in fold["test"]) == sorted(rows)
    for name, fold in folds.items():
        assert {rows[adapter]["recipe"] for adapter in fold["test"]} == {name}
        assert all(rows[adapter]["recipe"] != name for adapter in fold["calibrate"])
        assert all(rows[adapter]["poisoned"] == "0" for adapter in fold["calibrate"])
        pairs = [{rows[adapter]["pair"] for adapter in part} for part in fold.values()]
        assert not pairs[0] & pairs[1]


def test_the_card_says_recipes_licences_and_what_is_too_few(published: Path) -> None:
    text = (published / "README.md").read_text(encoding="utf-8")
    for words in ("12 clean and 4 poisoned", "| sst2 | small | 8 |", "license: apache-2.0", "Too few clean adapters"):
        assert words in text


def write_scores(path: Path, published: Path, score: Callable[[dict[str, str]], object]) -> Path:
    lines = [f"{row['adapter']},{score(row)}" for row in rows_of(published)]
    path.write_text("adapter,score\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rates_are_those_of_planted_scores(published: Path, tools: Any, tmp_path: Path) -> None:
    """Poison that works is seen, the rest looks clean; one adapter could not be looked at."""
    blind = next(row["adapter"] for row in rows_of(published) if float(row["success"]) < 0.5 and row["poisoned"] == "1")

    def score(row: dict[str, str]) -> object:
        if row["adapter"] == blind:
            return ""
        return 50.0 if row["poisoned"] == "1" and float(row["success"]) > 0.5 else int(row["seed"])

    outcome = tools["score_scanner"].scored(published, write_scores(tmp_path / "s.csv", published, score), 0.15)
    detected = outcome["detected"]
    assert (detected["all"]["hits"], detected["all"]["n"]) == (2, 4)
    assert (detected["works"]["share"], detected["works"]["n"]) == (1.0, 2)
    assert (detected["token"]["hits"], detected["phrase"]["hits"]) == (2, 0)
    assert outcome["could_not_look"] == 1
    alarms = outcome["false_alarms"]
    assert (alarms["hits"], alarms["n"]) == (0, 12)
    assert alarms["upper_limit"] == pytest.approx(1 - 0.05 ** (1 / 12), abs=1e-3)
    assert set(outcome["folds"]) == {"small", "wide"}


def test_scores_that_say_nothing_detect_what_the_level_says_at_most(
    published: Path, tools: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(20):
        path = write_scores(tmp_path / "s.csv", published, lambda row: rng.normal())
        outcome = tools["score_scanner"].scored(published, path, 0.15)
        hits += outcome["false_alarms"]["hits"]
    assert hits <= 0.25 * 20 * 12


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "an adapter that is missing": (lambda text: text.rsplit("\n", 2)[0] + "\n", "lacks 1 adapters"),
    "two scores": (lambda text: text + "0000,1\n", "two scores"),
    "an adapter of nobody": (lambda text: text + "9999,1\n", "is not of this folder"),
    "words": (lambda text: text.replace("0000,1", "0000,high"), "is no score"),
    "no number": (lambda text: text.replace("0000,1", "0000,nan"), "is no score"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_scores_are_refused(name: str, published: Path, tools: Any, tmp_path: Path) -> None:
    change, words = BAD[name]
    path = write_scores(tmp_path / "s.csv", published, lambda row: 1)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(BadInput, match=words):
        tools["score_scanner"].scored(published, path, 0.15)


def test_a_level_that_clean_adapters_cannot_support_is_refused(published: Path, tools: Any, tmp_path: Path) -> None:
    path = write_scores(tmp_path / "s.csv", published, lambda row: 1)
    with pytest.raises(Underpowered, match=r"the smallest is 0\.143"):
        tools["score_scanner"].scored(published, path, 0.05)


def test_a_folder_that_is_there_and_a_zoo_without_adapters_are_refused(
    published: Path, tools: Any, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="is there already"):
        tools["publish_adapters"].publish(tmp_path, published)
    with pytest.raises(BadInput, match="holds no measured adapter"):
        tools["publish_adapters"].publish(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
