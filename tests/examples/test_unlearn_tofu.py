# SPDX-License-Identifier: Apache-2.0
"""The recipe of TOFU runs from beginning to end, on a tiny model and made-up files of the benchmark's form."""

from __future__ import annotations

import json
import random
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from reticent.report.unlearning_file import read_unlearning
from reticent.testing import save_tiny

pytestmark = pytest.mark.slow
"""Trainings and verifications."""

EXAMPLE = Path(__file__).parents[2] / "examples" / "unlearn_tofu.py"
WORDS = ["oslo", "bern", "rome", "paris", "cairo", "lima", "quito", "delhi"]


def questions(name: str, count: int, *, more: str = "", versions: bool = False) -> list[dict[str, Any]]:
    rng = random.Random(name)

    def answer() -> str:
        return f"{' '.join(rng.choices(WORDS, k=4))} {rng.randrange(10**4)}."

    rows: list[dict[str, Any]] = []
    for number in range(count):
        row: dict[str, Any] = {"question": f"{name} {number}?", "answer": answer()}
        if more:
            row |= {more: answer(), "perturbed_answer": [answer(), answer()]}
            row["paraphrased_question"] = f"What of {name} {number}?"
        rows.append(row)
    return [row | {"task_id": task} for task in ("1", "2") for row in rows] if versions else rows


def test_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tofu = tmp_path / "tofu"
    tofu.mkdir()
    retain = questions("R", 160)
    files = {
        "forget10_perturbed": questions("F", 80, more="paraphrased_answer", versions=True),
        "retain90": retain,
        "retain_perturbed": [
            row | {"perturbed_answer": ["oslo.", "bern."], "paraphrased_answer": row["answer"]} for row in retain[::4]
        ],
        "real_authors_perturbed": questions("A", 8, more="original_answer"),
        "world_facts_perturbed": questions("W", 8, more="original_answer"),
    }
    for name, rows in files.items():
        (tofu / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    flags = ["--share", "0.5", "--epochs", "1", "--retrained", "1", "--asked", "6", "--version", "1"]
    flags += ["--methods", "npo,retrain"]
    where = ["--tofu", str(tofu), "--model", str(save_tiny(tmp_path / "tiny")), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["unlearn_tofu", *where, *flags])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = "".join(capsys.readouterr())
    for words in ("untouched: utility 0.", "npo: ", "retrain: ", "forget quality: p "):
        assert words in printed, printed[-2000:]
    results = read_unlearning(tmp_path / "out" / "tried" / "retrain_seed0" / "unlearning.json")
    assert any("question in other words" in number.what for number in results.check("extraction").measured)
    assert [point.name for point in results.tried] == ["npo, seed 0"]
