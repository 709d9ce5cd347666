# SPDX-License-Identifier: Apache-2.0
"""A grid of tiny trainings from records to report."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reticent.comparison import run
from reticent.comparison import trial as cells
from reticent.comparison.defences import DEFENCES
from reticent.comparison.grid import Grid, Method
from reticent.comparison.run import compare
from reticent.comparison.trial import TrialSettings, read_job, run_trial, write_job
from reticent.core.comparison import Comparison
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.monitor.config import MonitorConfig
from reticent.privacy import accounting
from reticent.privacy.mechanism import Mechanism
from reticent.report.comparison_file import read_comparison
from reticent.testing.tiny import save_tiny
from reticent.train.begun import read_begun
from reticent.train.config import TuneConfig
from reticent.workflows.tune import CanaryConfig, SplitConfig

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

GRID = Grid(
    methods=(Method(method="full", learning_rates=(3e-3, 1e-2)), Method(method="bitfit", learning_rates=(1e-3, 3e-2))),
    seeds=(0, 1),
)


def mails() -> list[Record]:
    rng = random.Random(0)
    return [
        Record(id=f"u{user}m{mail}", text=f"Kennwort {rng.randrange(10**9)}", user=f"mieter {user}")
        for user in range(44)
        for mail in range(4)
    ]


def shared_of(base: Path) -> TrialSettings:
    return TrialSettings(
        base=str(base),
        split=SplitConfig(),
        canaries=CanaryConfig(canaries=6, canary_controls=20, canary_repetitions="4"),
        training=TuneConfig(epochs=2, max_tokens=32, dtype="float32"),
        monitor=MonitorConfig(monitor=True, monitor_panel=60, monitor_every=5),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "base", arch="gpt2")


@pytest.fixture(scope="module")
def done(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    """Two methods, two learning rates, two seeds; one rate of full fine-tuning diverges."""
    root = tmp_path_factory.mktemp("grid") / "out"
    grid = replace(GRID, methods=(Method(method="full", learning_rates=(1e-3, 1e30)), GRID.methods[1]))
    return root, compare(mails(), grid=grid, shared=shared_of(base), out=root, title="mails", jobs=1, n_boot=100)


def test_every_cell_is_a_row_and_its_weights_are_gone(done: tuple[Path, Comparison]) -> None:
    root, found = done
    assert [row.status for row in found.cells].count("done") == 6
    lost = [row for row in found.cells if row.status != "done"]
    assert {row.learning_rate for row in lost} == {1e30}
    assert {row.status for row in lost} == {"diverged"}
    assert all("diverged" in row.why for row in lost)
    assert not list(root.glob("cells/*/model"))
    assert len(list(root.glob("cells/*/panel.parquet"))) >= 6


def test_settings_are_compared_at_one_loss_over_both_seeds(done: tuple[Path, Comparison]) -> None:
    _, found = done
    full, bitfit = found.settings
    assert full.learning_rates == (1e-3,)
    assert bitfit.learning_rates == (1e-3, 3e-2)
    assert full.seeds == bitfit.seeds == 2
    assert full.trained_parameters > bitfit.trained_parameters > 0
    assert full.matched is not None
    assert bitfit.matched is not None
    assert full.matched.loss == bitfit.matched.loss
    best = [found.points[setting.best or 0].loss.value for setting in (full, bitfit)]
    assert max(best) == pytest.approx(full.matched.loss)
    assert found.base_loss.value > full.matched.loss
    assert full.fairness is not None
    assert full.fairness.kl is not None
    assert full.fairness.kl.lo > 0
    (pair,) = found.pairs
    assert pair.less is None
    assert "one learning rate of full" in pair.why_not
    assert found.points[full.best or 0].exposure
    assert found.points[full.best or 0].user_auc is not None


def test_what_was_written_is_read_back_equal(done: tuple[Path, Comparison]) -> None:
    root, found = done
    assert read_comparison(root / "comparison.json") == found


def test_no_private_text_leaves_the_cells(done: tuple[Path, Comparison]) -> None:
    root, _ = done
    for name in ("comparison.json", "report.html"):
        text = (root / name).read_text(encoding="utf-8")
        assert "Kennwort" not in text
        assert "mieter" not in text
        assert "u3m1" not in text


def test_the_same_call_again_trains_nothing(
    done: tuple[Path, Comparison], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, found = done

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(cells, "tune", never)
    grid = replace(GRID, methods=(Method(method="full", learning_rates=(1e-3, 1e30)), GRID.methods[1]))
    again = compare(mails(), grid=grid, shared=shared_of(base), out=root, title="mails", jobs=1, n_boot=100)
    assert replace(again, created="") == replace(found, created="")
    with pytest.raises(BadInput, match="other settings"):
        compare(mails()[:-1], grid=grid, shared=shared_of(base), out=root, jobs=1)


def test_a_killed_cell_is_gone_on_with(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after training, before its outcome was written: the next call trains no more, and takes the weights."""
    cell, shared = GRID.cells[0], shared_of(base)
    records = mails()

    def kill(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cells, "_measure_kl", kill)
        with pytest.raises(KeyboardInterrupt):
            run_trial(tmp_path / "cell", cell, shared, records, "key")
    weights = (tmp_path / "cell" / "model" / "train_log.json").read_bytes()
    assert run_trial(tmp_path / "cell", cell, replace(shared, keep_models=True), records, "key").status == "done"
    assert (tmp_path / "cell" / "model" / "train_log.json").read_bytes() == weights
    assert run_trial(tmp_path / "cell", cell, shared, records, "key").status == "done"
    assert not (tmp_path / "cell" / "model").exists()
    with pytest.raises(BadInput, match="other settings"):
        run_trial(tmp_path / "cell", cell, shared, records, "another key")


def test_a_refused_cell_and_a_broken_one(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, shared = replace(GRID.cells[0], defence=DEFENCES["dropout"]), shared_of(base)
    refused = run_trial(tmp_path / "refused", cell, shared, mails(), "key")
    assert refused.status == "refused"
    assert "dropout" in refused.why

    def breaks(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Kennwort 123")

    monkeypatch.setattr(cells, "tune", breaks)
    broken = run_trial(tmp_path / "broken", GRID.cells[0], shared, mails(), "key")
    assert broken.status == "failed"
    assert "Kennwort" not in json.dumps(broken.why)
    assert cells.read_outcome(tmp_path / "broken", "key") is None


def test_a_job_travels_to_another_process(base: Path, tmp_path: Path) -> None:
    cell, shared = replace(GRID.cells[3], defence=DEFENCES["cap2"]), shared_of(base)
    write_job(tmp_path, cell, shared, "key")
    assert read_job(tmp_path) == (cell, shared, "key")


def test_cells_run_in_processes_of_their_own(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here both are refused at once, so that the test is quick: what counts is that the outcome comes back."""

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("trained in this process")

    monkeypatch.setattr(run, "run_trial", never)
    method = Method(method="bitfit", learning_rates=(1e-2,))
    grid = Grid(methods=(method,), defences=(DEFENCES["dropout"],), seeds=(0, 1))
    with pytest.raises(BadInput, match=r"none of 2 trainings was finished.*dropout"):
        compare(mails(), grid=grid, shared=shared_of(base), out=tmp_path / "out", jobs=2)
    found = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("cells/*/cell.json")]
    assert [one["status"] for one in found] == ["refused", "refused"]


def test_private_cells_are_looked_at_once_they_are_done(base: Path, tmp_path: Path) -> None:
    cell = replace(GRID.cells[0], defence=DEFENCES["epsilon8"], learning_rate=1e-2)
    shared = replace(shared_of(base), canaries=CanaryConfig(), training=TuneConfig(epochs=2, max_tokens=32))
    folder = tmp_path / "cell"
    assert run_trial(folder, cell, shared, mails(), "key").status == "done"
    watch = json.loads((folder / "monitor.json").read_text())
    assert [moment["phase"] for moment in watch["moments"]] == ["start", "fitting"]
    assert watch["moments"][1]["auc"] is not None


def test_where_a_training_is_private_per_user_no_user_holds_back_anothers_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All trainings have the same records, coins and rule for copies."""
    given: list[tuple[TrialSettings, list[Record]]] = []

    def seen(study: Any, *rest: Any) -> list[None]:
        given.append((study.shared, study.records))
        raise KeyboardInterrupt

    monkeypatch.setattr(run._Study, "train_all", seen)
    records = [*mails(), *(replace(mail, id=f"{mail.id}b", user="else") for mail in mails()[:7])]
    for number, names in enumerate((["none"], ["none", "epsilon8"], ["none", "epsilon8", "user_epsilon8"])):
        grid = replace(GRID, defences=tuple(DEFENCES[name] for name in names))
        with pytest.raises(KeyboardInterrupt):
            compare(records, grid=grid, shared=shared_of(Path("base")), out=tmp_path / str(number), jobs=1)
    assert [shared.split.copies for shared, _ in given] == ["all", "all", "user"]
    assert [len(kept) for _, kept in given] == [len(mails()), len(mails()), len(records)]


def test_unstable_settings_are_refused_where_any_training_is_private(tmp_path: Path) -> None:
    grid = replace(GRID, defences=(DEFENCES["none"], DEFENCES["epsilon8"]))
    shared = replace(shared_of(Path("base")), split=SplitConfig(max_records_per_user=2))
    with pytest.raises(BadInput, match="can push out another"):
        compare(mails(), grid=grid, shared=shared, out=tmp_path / "out")
    user = replace(grid, defences=(DEFENCES["none"], DEFENCES["user_epsilon8"]))
    words = replace(shared, canaries=CanaryConfig(canaries=6, canary_kind="unigram"))
    with pytest.raises(BadInput, match="canary_kind='unigram'"):
        compare(mails(), grid=user, shared=words, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_private_cells_together_are_stated_with_those_that_were_lost(base: Path, tmp_path: Path) -> None:
    """A rate that trains and one that diverges: both were seen, so both cost."""
    grid = Grid(
        methods=(Method(method="bitfit", learning_rates=(1e-2, 1e38)),),
        defences=(DEFENCES["user_epsilon8"], DEFENCES["none"]),
        seeds=(0,),
    )
    training = TuneConfig(epochs=1, max_tokens=32, dtype="float32", warmup=0.0)
    shared = replace(shared_of(base), canaries=CanaryConfig(), training=training)
    root = tmp_path / "out"
    found = compare(mails(), grid=grid, shared=shared, out=root, jobs=1, n_boot=50)
    done, lost = [row for row in found.cells if "user_epsilon8" in row.name]
    assert (done.status, lost.status) == ("done", "diverged")
    promised = json.loads((root / "cells" / done.name / "manifest.json").read_text())["tune"]["promise"]
    (ended,) = read_begun(root / "cells" / lost.name / "model")
    assert ended.steps is not None
    assert 1 <= ended.steps <= promised["steps"]
    mechanism = Mechanism(noise_multiplier=promised["noise_multiplier"], rate=promised["rate"])
    (together,) = found.together
    both = accounting.spent(mechanism, steps=promised["steps"] + ended.steps, delta=promised["delta"])
    assert together.epsilon == pytest.approx(both.epsilon, abs=0.01)
    assert promised["epsilon"] < together.epsilon < together.sum_epsilon
    assert (together.unit, together.trainings, together.without_privacy) == ("user", 2, 1)
    assert read_comparison(root / "comparison.json") == found
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "2 private trainings together: ε = " in page
    assert f"per user at δ = {together.delta:.2g} (add or remove one user" in page
    fewer = replace(grid, methods=(Method(method="bitfit", learning_rates=(1e-2,)),))
    again = compare(mails(), grid=fewer, shared=shared, out=root, jobs=1, n_boot=50)
    assert again.together == found.together  # what is no longer in the grid was spent all the same
