# SPDX-License-Identifier: Apache-2.0
"""From flags to the grid."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from reticent.cli import main as cli
from reticent.comparison.config import CompareConfig, numbers
from reticent.comparison.defences import DEFENCES
from reticent.comparison.grid import Grid, Method, Trial, parse_methods, with_rates
from reticent.comparison.presets.preset import PRESETS
from reticent.comparison.resolve import resolve
from reticent.comparison.run import one_split
from reticent.comparison.trial import JOB, read_job, write_job
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.tuning.method import TUNINGS
from reticent.monitor.config import MonitorConfig
from reticent.train.hardening import HardenConfig
from reticent.workflows.tune import CanaryConfig, SplitConfig


def settled(canaries: CanaryConfig | None = None, **flags: object) -> tuple:
    return resolve(CompareConfig(**flags), model="m", split=SplitConfig(), canaries=canaries or CanaryConfig())


def test_flags_make_a_grid() -> None:
    grid, shared = settled(
        methods="full,adapter:reduction_factor=2,lora:r=8:alpha=16", learning_rates="3e-4,1e-4", seeds="0,1,2",
        defences="none,goldfish", epochs=5, every=7, panel=99, max_tokens=64,
    )  # fmt: skip
    assert [method.name for method in grid.methods] == ["full", "adapter(2)", "lora(r=8, alpha=16)"]
    assert len(grid.cells) == 3 * 2 * 2 * 3
    assert {cell.learning_rate for cell in grid.cells} == {1e-4, 3e-4}
    assert [cell.seed for cell in grid.cells] == sorted(cell.seed for cell in grid.cells)
    assert len({cell.name for cell in grid.cells}) == len(grid.cells)
    assert (shared.training.epochs, shared.training.max_tokens) == (5, 64)
    assert shared.monitor == MonitorConfig(monitor=True, monitor_panel=99, monitor_every=7)


def test_left_out_learning_rates_lie_around_the_methods_own() -> None:
    assert with_rates(Method(method="lora"), 5e-4).learning_rates == (1.7e-4, 5e-4, 1.5e-3)
    assert with_rates(Method(method="lora", learning_rates=(1.0,)), 5e-4).learning_rates == (1.0,)


@pytest.mark.parametrize("name", ["memorization-study", "user-inference", "privacy-utility"])
def test_presets_are_whole_studies_that_flags_win_over(name: str) -> None:
    grid, shared = settled(preset=name)
    assert len(grid.seeds) >= 2
    assert all(method.method in TUNINGS for method in grid.methods)
    assert PRESETS.get(name).about
    assert shared.training.epochs == PRESETS.get(name).study.epochs
    grid, shared = settled(CanaryConfig(canaries=3), preset=name, seeds="7", epochs=1, methods="head", defences="none")
    assert (grid.seeds, shared.training.epochs, shared.canaries.canaries) == ((7,), 1, 3)
    assert [method.method for method in grid.methods] == ["head"]


def test_the_study_of_methods_sweeps_learning_rates_and_plants_secrets() -> None:
    grid, shared = settled(preset="memorization-study")
    assert [method.name for method in grid.methods] == ["full", "head", "adapter(16)", "adapter(2)", "lora"]
    assert {len(method.learning_rates) for method in grid.methods} == {3}
    assert shared.canaries.canaries > 0


@pytest.mark.parametrize(
    ("defences", "user", "unit", "repetitions"),
    [
        ("none", "someone", "user", "auto"),
        ("none", None, "record", "auto"),
        ("none,epsilon8", "someone", "record", "1"),
        ("none,user_epsilon8", "someone", "user", "1"),
    ],
)
def test_all_trainings_share_one_split(defences: str, user: str | None, unit: str, repetitions: str) -> None:
    grid, shared = settled(CanaryConfig(canaries=4), defences=defences)
    found = one_split(shared, grid, [Record(id="a", text="a", user=user)])
    assert (found.split.split_unit, found.canaries.canary_repetitions) == (unit, repetitions)
    kept = replace(shared, split=SplitConfig(split_unit="record"))
    assert one_split(kept, grid, []).split.split_unit == "record"


def test_every_defence_is_a_setting_that_exists() -> None:
    for defence in DEFENCES.values():
        SplitConfig(**defence.split)
        MonitorConfig(**defence.monitor)
        HardenConfig(**defence.harden)
        CanaryConfig(**defence.canaries)
        assert defence.promise.is_private == defence.is_private
        assert defence.about


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"preset": "memorisation"}, "preset"),
        ({"defences": "nine"}, "defence 'nine'"),
        ({"learning_rates": "fast"}, "no list of distinct numbers"),
        ({"seeds": "0,0"}, "no list of distinct numbers"),
        ({"methods": "lora:r"}, "no method"),
        ({"methods": "full,full"}, "must be distinct"),
        ({"panel": 0}, "panel"),
    ],
)
def test_what_is_no_grid_is_refused(flags: dict, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        settled(**flags)


def test_lists_and_names() -> None:
    assert numbers("1e-4, 3", "x") == (1e-4, 3.0)
    (method,) = parse_methods("adapter:reduction_factor=16")
    cell = Grid(methods=(Method(method="adapter", params=method.params, learning_rates=(1e-4,)),)).cells[0]
    assert cell.name == "adapter-reduction_factor16_0.0001_none_seed0"
    assert cell.key("a") != cell.key("b")


def test_the_command_line_takes_the_flags() -> None:
    words = ["compare", "x.txt", "--preset", "memorization-study", "--seeds", "0", "--learning-rates", "1e-4",
             "--block-words", "90", "--jobs", "1", "--keep_models"]  # fmt: skip
    parser = cli._parser(cli._verbs(), chosen="compare")
    options = parser.parse_args(cli._underscored(words))
    given = cli._arguments(cli._verbs()["compare"], options["compare"], "compare")
    config = given["compare_config"]
    assert (config.seeds, config.learning_rates, config.keep_models) == ("0", "1e-4", True)
    assert given["data_config"].block_words == 90


def test_a_wrong_flag_is_a_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "nowhere.txt", "--preset", "none"]) == 2


def test_any_objective_is_a_defence_with_its_settings() -> None:
    grid, _ = settled(defences="none, goldfish(k=3, context=5),unlikelihood(),loss_floor", methods="full")
    assert [chosen.name for chosen in grid.defences] == [
        "none",
        "goldfish(k=3, context=5)",
        "unlikelihood()",
        "loss_floor",
    ]
    made = [chosen.training_objectives for chosen in grid.defences]
    assert [[one.given for one in objectives] for objectives in made] == [
        [],
        ["goldfish=3"],
        ["contextual='unlikelihood'"],
        ["loss_floor=2"],
    ]
    cell = Trial(setting=0, method=Method(method="full"), learning_rate=1.0, defence=grid.defences[1], seed=0)
    assert cell.name == "full_1_goldfishk3context5_seed0"
    for wrong in ("goldfsh(k=3)", "goldfish(k=1)", "goldfish(", "none,goldfish(k=)", "removal"):
        with pytest.raises(BadInput):
            settled(defences=wrong)


def test_cells_of_earlier_versions_are_known_again(tmp_path: Path) -> None:
    """Their key, written out; and a job that knows of no objectives."""
    earlier = [chosen for chosen in DEFENCES.values() if not (chosen.objectives or chosen.stand_in)]
    for chosen in earlier:
        cell = Trial(
            setting=0, method=Method(method="lora", params={"r": 8}), learning_rate=1e-3, defence=chosen, seed=1
        )
        fields = ("name", "about", "split", "monitor", "harden", "privacy", "canaries")
        about = {
            "shared": "s",
            "rate": 1e-3,
            "seed": 1,
            "defence": {name: getattr(chosen, name) for name in fields},
            "method": "lora",
            "params": {"r": 8},
        }
        assert cell.key("s") == hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    shared = settled(methods="full")[1]
    write_job(tmp_path, cell, shared, "key")
    job = json.loads((tmp_path / JOB).read_text())
    del job["cell"]["defence"]["objectives"]
    (tmp_path / JOB).write_text(json.dumps(job))
    assert read_job(tmp_path)[0] == cell
