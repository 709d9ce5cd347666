# SPDX-License-Identifier: Apache-2.0
"""The script that holds all mechanisms against each other asks for each of them, and says what it expects to take."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from reticent.synthesis.synthesis_mechanism import MECHANISMS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("synthetic_text")


def test_every_mechanism_is_there_at_each_promise_and_none_with_both_kinds_of_canaries(script: Any) -> None:
    cells = list(script.cells("sst2", [*script.MECHANISMS, "none"], [8.0, 1.0]))
    assert {cell.mechanism for cell in cells} == set(MECHANISMS.names())
    assert [cell.name for cell in cells][:3] == ["none", "none-high_temperature", "dp_tune-8"]
    assert len({cell.name for cell in cells}) == len(cells) == 8
    lines = script.estimate(cells, script.Size())
    assert len(lines) == 9
    assert lines[-1].startswith("all together about ")


def test_records_are_those_of_the_data_each_once_and_without_marks(script: Any, tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("sentence\tlabel\na good film indeed\t1\nbad\t0\na good film indeed\t1\n")
    assert [record.text for record in script.records_of("sst2", script.TINY, tmp_path)] == ["a good film indeed"]
    made_up = script.records_of("sst2", script.TINY, tmp_path / "nothing")
    assert len({record.text for record in made_up}) == script.TINY.sentences
    mails = script.records_of("help_desk", script.TINY, tmp_path)
    assert len(mails) == script.TINY.users * script.TINY.mails
    assert not any(record.spans for record in mails)


def test_seconds_of_a_cell_are_those_of_the_process_that_made_it(script: Any, tmp_path: Path) -> None:
    assert script._seconds(tmp_path / "data" / "none", {"seconds": 7.0}) == {"seconds": 7.0}
    assert script._seconds(tmp_path / "data" / "none", {"seconds": 0.1}) == {"seconds": 7.0}
    assert json.loads((tmp_path / "data" / "none-seconds.json").read_text()) == {"seconds": 7.0}


def test_a_refused_cell_is_a_line_of_the_table(script: Any) -> None:
    bound = {"from": "x", "per": "user", "epsilon_at_least": 0.5, "promised": 8.0, "delta": 1e-5}
    found = {"record auc": {"value": 0.7, "lo": 0.6, "hi": 0.8}}
    rows = [
        {"data": "sst2", "cell": "dp_tune-8", "findings": found, "bounds": [bound]},
        {"data": "sst2", "cell": "private_evolution-1", "refused": "too few"},
    ]
    lines = script.table(rows)
    assert "0.700 [0.600, 0.800]" in lines[1]
    assert "0.50 per user, 8" in lines[1]
    assert "refused: too few" in lines[2]
