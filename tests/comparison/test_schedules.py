# SPDX-License-Identifier: Apache-2.0
"""Schedules of the learning rate as an axis of the grid: trained as named, ranked among themselves, shown where they
differ."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from reticent.cli import flags
from reticent.cli import main as cli
from reticent.comparison.config import CompareConfig
from reticent.comparison.defences import DEFENCES
from reticent.comparison.evaluate import FinishedTrial, evaluate
from reticent.comparison.grid import Grid, Method, Trial, name_of
from reticent.comparison.resolve import resolve
from reticent.comparison.run import compare
from reticent.comparison.trial import TrialSettings, read_job, run_trial, write_job
from reticent.core.comparison import Comparison
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.monitor.config import MonitorConfig
from reticent.report.comparison_console import print_comparison
from reticent.report.comparison_file import read_comparison, write_comparison
from reticent.report.comparison_page import labels, render_comparison
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.workflows.tune import CanaryConfig, SplitConfig
from tests.comparison.test_evaluate import FULL, HEAD, looks, outcome_of

BOTH = ("linear", "constant")
MAILS = [Record(id=f"m{i}", text=f"order {i * 7919 % 10**6}", user=f"u{i // 4}") for i in range(96)]


def settled(**given: object) -> Grid:
    return resolve(CompareConfig(**given), model="m", split=SplitConfig(), canaries=CanaryConfig())[0]


def compared(grid: Grid, leak: dict[str, float]) -> Comparison:
    """What leaks is drawn: as much as the schedule says, at gains that the learning rate says."""
    trained = []
    for i, cell in enumerate(grid.cells):
        scale = 1.0 if cell.learning_rate > 2e-4 else 0.7
        own = looks(i, leak[cell.schedule], (0.2 * scale, 0.5 * scale))
        trained.append(FinishedTrial(cell=cell, outcome=outcome_of(cell), folder=Path("nowhere"), looks=own))
    return evaluate(grid, trained, title="t", provenance={}, n_boot=200)


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compared(Grid(methods=(FULL,), schedules=BOTH), {"linear": 0.05, "constant": 0.6})


def test_a_list_of_schedules_is_an_axis() -> None:
    grid = settled(methods="full,lora", learning_rates="1e-4", seeds="0,1", lr_scheduler_types="linear, constant")
    assert grid.schedules == BOTH
    assert len(grid.cells) == 2 * 2 * 2
    assert len({cell.name for cell in grid.cells}) == len({cell.key("a") for cell in grid.cells}) == 8
    assert [(name_of(*setting)) for setting in grid.settings] == [
        *("full, linear", "full, constant", "lora, linear", "lora, constant")
    ]
    assert settled().schedules == ("linear",)
    for wrong in ("linear,linear", "quick", "linear,", ","):
        with pytest.raises(BadInput, match="lr_scheduler_types"):
            settled(lr_scheduler_types=wrong)


LATER = ("objectives", "stand_in")


def test_cells_of_earlier_versions_are_the_linear_ones() -> None:
    """Their names and keys had no schedule in them."""
    grid = Grid(methods=(replace(FULL, learning_rates=(1e-4,)),), schedules=BOTH, seeds=(0,))
    linear, constant = grid.cells
    assert linear.name == "full_0.0001_none_seed0"
    assert constant.name == "full_0.0001_constant_none_seed0"
    about = {
        "shared": "a",
        "rate": 1e-4,
        "seed": 0,
        "defence": {
            name: value for name, value in asdict(DEFENCES["none"]).items() if name not in ("objectives", "stand_in")
        },
        "method": "full",
        "params": {},
    }
    assert linear.key("a") == hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    assert constant.key("a") != linear.key("a")


def test_of_two_schedules_the_one_that_leaks_less_is_said_to(found: Comparison) -> None:
    assert [setting.name for setting in found.settings] == ["full, linear", "full, constant"]
    assert [setting.schedule for setting in found.settings] == list(BOTH)
    (pair,) = found.pairs
    assert (pair.kind, pair.less) == ("schedule", 0)
    assert "full, linear leaks less than full, constant at perplexity" in found.headline
    alone = compared(Grid(methods=(FULL,), schedules=("constant",)), {"constant": 0.1})
    assert (alone.settings[0].name, alone.settings[0].schedule) == ("full", "constant")


def test_one_learning_rate_ranks_no_schedules() -> None:
    """A constant rate is a higher one on average."""
    grid = Grid(methods=(replace(FULL, learning_rates=(3e-4,)),), schedules=BOTH)
    (pair,) = compared(grid, {"linear": 0.05, "constant": 0.6}).pairs
    assert pair.less is None
    assert "matters more than the schedule" in pair.why_not


def test_only_what_differs_in_one_thing_is_paired() -> None:
    grid = Grid(methods=(FULL, HEAD), defences=(DEFENCES["none"], DEFENCES["goldfish"]), schedules=BOTH, seeds=(0,))
    found = compared(grid, {"linear": 0.05, "constant": 0.1})
    kinds = [pair.kind for pair in found.pairs]
    assert (kinds.count("method"), kinds.count("defence"), kinds.count("schedule")) == (4, 4, 4)
    for pair in found.pairs:
        a, b = found.settings[pair.a], found.settings[pair.b]
        differ = [a.method != b.method, a.defence != b.defence, a.schedule != b.schedule]
        assert sum(differ) == 1


def test_page_console_and_file_show_schedules_where_there_are_several(found: Comparison, tmp_path: Path) -> None:
    assert labels(found.settings) == list(BOTH)
    defended = tuple(replace(one, defence="goldfish", name=f"{one.name}, goldfish") for one in found.settings)
    assert labels((*found.settings, *defended)) == [
        *("none, linear", "none, constant", "goldfish, linear", "goldfish, constant")
    ]
    page = render_comparison(found)
    assert ">constant" in page
    console = Console(record=True, width=160, quiet=False)
    print_comparison(found, console=console)
    assert "full, constant" in console.export_text()
    write_comparison(tmp_path / "comparison.json", found)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["schema_version"] == 5
    assert [setting["schedule"] for setting in content["settings"]] == list(BOTH)
    assert read_comparison(tmp_path / "comparison.json").settings == found.settings


def test_a_file_of_the_version_before_is_read_as_linear(tmp_path: Path) -> None:
    found = compared(Grid(methods=(FULL, HEAD)), {"linear": 0.05})
    write_comparison(tmp_path / "comparison.json", found)
    content = json.loads((tmp_path / "comparison.json").read_text()) | {"schema_version": 2}
    for setting in content["settings"]:
        assert setting.pop("schedule") == "linear"
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    assert read_comparison(tmp_path / "comparison.json").settings == found.settings
    render_comparison(read_comparison(tmp_path / "comparison.json"))
    (tmp_path / "comparison.json").write_text(json.dumps(content | {"schema_version": 1}))
    with pytest.raises(BadInput, match="no comparison of version 5"):
        read_comparison(tmp_path / "comparison.json")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TrialSettings:
    return TrialSettings(
        base=str(save_tiny(tmp_path_factory.mktemp("tiny") / "base")),
        split=SplitConfig(),
        canaries=CanaryConfig(),
        training=TuneConfig(epochs=1, max_tokens=32, dtype="float32"),
        monitor=MonitorConfig(monitor=True, monitor_panel=20),
        keep_models=True,
    )


@pytest.mark.parametrize("defence", ["none", "user_epsilon8"])
def test_a_cell_is_trained_with_its_schedule(shared: TrialSettings, tmp_path: Path, defence: str) -> None:
    method = Method(method="full", learning_rates=(1e-3,))
    cell = Trial(setting=0, method=method, learning_rate=1e-3, defence=DEFENCES[defence], seed=0, schedule="constant")
    (tmp_path / "cell").mkdir()
    write_job(tmp_path / "cell", cell, shared, "key")
    assert read_job(tmp_path / "cell")[0] == cell
    assert run_trial(tmp_path / "cell", cell, shared, MAILS, "key").status == "done"
    log = json.loads((tmp_path / "cell" / "model" / "train_log.json").read_text())
    assert log["config"]["lr_scheduler_type"] == "constant"
    assert [row["learning_rate"] for row in log["history"] if "learning_rate" in row][-1] == 1e-3


def test_more_schedules_in_a_folder_of_an_earlier_version_train_only_what_is_new(
    shared: TrialSettings, tmp_path: Path
) -> None:
    methods = (Method(method="full", learning_rates=(1e-3,)),)
    grid, out = Grid(methods=methods, seeds=(0,)), tmp_path / "out"
    compare(MAILS, grid=grid, shared=shared, out=out, jobs=1, n_boot=20)
    said = yaml.safe_load((out / "compare.yaml").read_text())
    later = {"lr_scheduler_type", "warmup_steps", "shards", "base_dtype", "load_in", "gradient_checkpointing"}
    later |= {"strategy"}
    assert said["training"].keys() == asdict(shared.training).keys() - later
    before = {path.name: path.stat().st_mtime_ns for path in (out / "cells").glob("*/cell.json")}
    written = (out / "cells" / grid.cells[0].name / "cell.json").stat().st_mtime_ns
    found = compare(MAILS, grid=replace(grid, schedules=BOTH), shared=shared, out=out, jobs=1, n_boot=20)
    assert (out / "cells" / grid.cells[0].name / "cell.json").stat().st_mtime_ns == written
    assert before
    assert [row.name for row in found.cells] == ["full_0.001_none_seed0", "full_0.001_constant_none_seed0"]
    assert all(row.status == "done" for row in found.cells)


def test_the_flag_may_be_spelt_as_in_tune() -> None:
    verb = cli._verbs()["compare"]
    for word in ("--lr_scheduler_types", "--lr-scheduler-type", "--lr_scheduler_type"):
        assert flags.spelt([word, "linear,constant"], "compare", verb) == ["--lr_scheduler_types", "linear,constant"]
