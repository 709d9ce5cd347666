# SPDX-License-Identifier: Apache-2.0
"""Two hands at one comparison: the outcome of one process, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reticent.comparison import shared_cells
from reticent.comparison.config import CompareConfig
from reticent.comparison.grid import Grid, Method
from reticent.comparison.run import compare
from reticent.comparison.trial import TrialSettings
from reticent.core import hands
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.monitor.config import MonitorConfig
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig

MAILS = [Record(id=f"m{i}", text=f"Kennwort {i * 7919 % 99991}", user=f"u{i % 30}") for i in range(60)]
GRID = Grid(methods=(Method(method="bitfit", learning_rates=(1e-2, 3e-2)),), seeds=(0, 1))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(hands, "PAUSE", 0.01)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TrialSettings:
    return TrialSettings(
        base=str(save_tiny(tmp_path_factory.mktemp("tiny") / "base", arch="gpt2")),
        split=SplitConfig(),
        canaries=CanaryConfig(),
        training=TuneConfig(epochs=1, max_tokens=16, dtype="float32"),
        monitor=MonitorConfig(monitor=True, monitor_panel=12),
    )


@pytest.fixture(scope="module")
def alone(shared: TrialSettings, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    return compared(tmp_path_factory.mktemp("alone") / "out", shared, 1)


def compared(out: Path, shared: TrialSettings, jobs: int | str = "join", grid: Grid = GRID) -> Path:
    compare(MAILS, grid=grid, shared=shared, out=out, title="mails", jobs=jobs, n_boot=20)
    return out


def fork(work: Callable[[], Any]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def same(one: Path, other: Path) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if not any(part in key for part in TIMES)}
        return [plain(item) for item in value] if isinstance(value, list) else value

    mine, theirs = (plain(json.loads((root / "comparison.json").read_text())) for root in (one, other))
    assert mine == theirs
    files = [sorted(str(path.relative_to(root)) for path in root.rglob("*")) for root in (one, other)]
    assert files[0] == files[1]
    assert [path.name for path in other.parent.iterdir() if path.name.startswith(".")] == []


TIMES = ("seconds", "created", "finished")


def test_two_hands_do_what_one_does(alone: Path, shared: TrialSettings, tmp_path: Path) -> None:
    out, trained = tmp_path / "out", tmp_path / "trained"
    run_trial = shared_cells.run_trial

    def counting(folder: Path, *given: Any) -> Any:
        if not (folder / "cell.json").exists():
            with trained.open("a") as file:
                file.write(f"{os.getpid()} {folder.name}\n")
        return run_trial(folder, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_cells, "run_trial", counting)
        children = [fork(lambda: compared(out, shared)) for _ in range(2)]
        assert [ended(child) for child in children] == [0, 0]
    same(alone, out)
    lines = [line.split() for line in trained.read_text().splitlines()]
    assert len({name for _, name in lines}) == len(lines) == 4, "no cell was trained twice"
    assert len({process for process, _ in lines}) == 2, "both trained"


def test_a_hand_that_dies_loses_its_cell_alone_and_another_leads(
    alone: Path, shared: TrialSettings, tmp_path: Path
) -> None:
    """The first hand leads and dies in its second cell."""
    out, began = tmp_path / "out", tmp_path / "began"

    def dies() -> None:
        run_trial, trained = shared_cells.run_trial, []

        def dying(*given: Any) -> Any:
            trained.append(1)
            if len(trained) == 2:
                began.touch()
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGKILL)
            return run_trial(*given)

        shared_cells.run_trial = dying
        compared(out, shared)

    child = fork(dies)
    while not began.exists():
        time.sleep(0.01)
    compared(out, shared)
    assert ended(child) == -signal.SIGKILL
    same(alone, out)


def test_a_hand_with_another_grid_shares_nothing_it_was_not_asked_for(shared: TrialSettings, tmp_path: Path) -> None:
    out, began = tmp_path / "out", tmp_path / "began"

    def waits() -> None:
        run_trial = shared_cells.run_trial

        def waiting(*given: Any) -> Any:
            began.touch()
            time.sleep(1)
            return run_trial(*given)

        shared_cells.run_trial = waiting
        compared(out, shared, grid=Grid(methods=GRID.methods, seeds=(0,)))

    child = fork(waits)
    while not began.exists():
        time.sleep(0.01)
    with pytest.raises(BadInput, match="--jobs join: the hand that leads was asked for something else"):
        compared(out, shared)
    assert ended(child) == 0


@pytest.mark.parametrize("jobs", ["many", "raid", "", "0", "joins"])
def test_other_words_are_refused(jobs: str) -> None:
    with pytest.raises(BadInput, match="is no number, and neither join nor ray"):
        CompareConfig(jobs=jobs)
    assert CompareConfig(jobs="join").jobs == "join"
