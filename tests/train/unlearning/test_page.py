# SPDX-License-Identifier: Apache-2.0
"""What the page of unlearning methods says of each is what it declares, and its method is one file that works."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reticent.train.unlearning.methods as folder
from reticent.core.paper import paper_url
from reticent.testing.unlearners import check_unlearner, planted_rows
from reticent.train.unlearning.method import UNLEARNERS, Unlearner, method_names

PAGE = (Path(__file__).parents[3] / "docs" / "unlearning_methods.md").read_text(encoding="utf-8")
OURS = ("token_local",)
"""Methods of which no paper is shown."""


def cells(title: str) -> dict[str, list[str]]:
    """Rows of the first table below a heading, by their first cell."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [re.split(r" *\| *", line)[1:-1] for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


LOSSES = cells("Losses")


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-\d+)?", text)]


def test_every_method_is_on_the_page() -> None:
    others = cells("Methods without a loss")
    shown = {**dict.fromkeys(LOSSES, "loss"), **{name: row[-1] for name, row in others.items()}}
    assert shown == {name: UNLEARNERS.get(name).kind for name in method_names()}


@pytest.mark.parametrize("name", LOSSES)
def test_what_it_says_of_a_loss_is_declared(name: str) -> None:
    method = UNLEARNERS.get(name)
    _, needs, weights, defaults, paper = LOSSES[name]
    assert set(re.findall(r"`(\w+)`", needs)) == method.needs
    term = [] if method.retain == "none" else [method.retain_weight]
    assert numbers(weights) == [method.forget_weight, *term]
    assert weights.split(", ")[-1] == ("–" if method.retain == "none" else method.retain)
    assert method.learning_rate is not None
    assert numbers(defaults)[:2] == [method.learning_rate, method.epochs]
    given = [100 * value if value == "quantile" else value for value in method.defaults.values()]
    assert sorted(numbers(re.sub(r"β[12]", "β", defaults))[2:]) == sorted(given)
    assert name in OURS or f"({paper_url(method.paper)})" in paper


def test_what_it_says_of_means_is_declared() -> None:
    sentence = re.search(
        r"^(.*?) are means over rows, the others over tokens", PAGE.replace("\n", " ").split("| ours |")[1]
    )
    assert sentence
    by_rows = {method.name for method in UNLEARNERS if method.kind == "loss" and method.mean_over == "rows"}
    assert set(re.findall(r"`(\w+)`", sentence[1])) == by_rows


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unlearner]:
    """The page's method, in a further folder of the package in which nothing else is changed."""
    block = next(block for block in PAGE.split("```python\n")[1:] if block.startswith("# src/reticent/"))
    file = re.match(r"# src/reticent/train/unlearning/methods/(\w+)\.py\n", block)
    assert file
    (tmp_path / f"{file[1]}.py").write_text(block.split("```")[0], encoding="utf-8")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    monkeypatch.setattr(UNLEARNERS, "_discovered", False)
    importlib.invalidate_caches()
    yield UNLEARNERS.get(file[1])
    del UNLEARNERS._things[file[1]]
    del sys.modules[f"reticent.train.unlearning.methods.{file[1]}"]


def test_the_method_of_the_page_is_one_file_that_keeps_to_the_rules(added: Unlearner) -> None:
    check_unlearner(added)
    rows = planted_rows()
    assert added.defaults == {"floor": 10.0}
    assert added(rows).item() == pytest.approx(UNLEARNERS.get("gradient_ascent")(rows).item())
    assert added(rows, floor=1e-6).item() == pytest.approx(-1e-6)
