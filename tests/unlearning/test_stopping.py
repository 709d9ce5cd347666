# SPDX-License-Identifier: Apache-2.0
"""The weights that an unlearning ends with are those of the look that is kept, also after a kill at any look."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reticent.core.finding import Estimate
from reticent.unlearning import stopping
from reticent.unlearning.looks import Look, LookPlan
from reticent.unlearning.stopping import NothingKept, PanelStopping, read_looks

AUCS = {0: 1.0, 1: 0.8, 2: 0.55, 3: 0.3, 4: 0.2}
"""By step: the aim is passed between the second and the third, and nearest at the second."""


def look(step: int, *, in_budget: bool = True, past: bool = False) -> Look:
    number = Estimate(value=AUCS[step], lo=0.0, hi=1.0, n=9, method="")
    return Look(
        step=step,
        aucs={"loss": number},
        forget_loss=1.0 + step,
        unseen_loss=2.5,
        retain_loss=Estimate(value=1.0, lo=0.9, hi=1.1, n=9, method=""),
        like_unseen=past,
        in_band=False,
        in_budget=in_budget,
    )


class Table:
    """Of no text."""

    lengths = np.ones(1)

    def __getitem__(self, name: str) -> str:
        return name

    def sum(self, name: str) -> np.ndarray:
        return np.zeros(1)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens a watch over a model with one number, which is the step; looks come from a table."""
    model = torch.nn.Linear(1, 1, bias=False)
    looks = {step: look(step) for step in AUCS}
    monkeypatch.setattr(stopping, "table_of", lambda *_: Table())
    monkeypatch.setattr(stopping, "attack_scores", lambda *_: {})
    monkeypatch.setattr(stopping, "look_at", lambda numbers, plan, *, step, first: looks[step])
    panel = SimpleNamespace(rows=[], side=np.array([]), user=np.array([]))

    def watch() -> PanelStopping:
        plan = LookPlan(margin=0.2, budget=0.2, looks=4)
        return PanelStopping(
            panel, Table(), plan, folder=tmp_path, file=tmp_path / "looks.json", every=1, dtype="float32"
        )

    return SimpleNamespace(model=model, looks=looks, watch=watch, folder=tmp_path)


def run(opened, *, start: int = 0, stop: int = 4) -> int:
    """Train from one step to another and end; the step at which training stopped."""
    watch = opened.watch()
    state, control = SimpleNamespace(global_step=start), SimpleNamespace(should_training_stop=False)
    watch.on_train_begin(None, state, control, model=opened.model)
    while state.global_step < stop and not control.should_training_stop:
        state.global_step += 1
        opened.model.weight.data.fill_(state.global_step)
        watch.on_step_end(None, state, control, model=opened.model)
    watch.on_train_end(None, state, control, model=opened.model)
    return state.global_step


def test_the_nearest_look_is_put_back_however_many_follow(opened) -> None:
    assert run(opened) == 4
    assert opened.model.weight.item() == 2
    assert [look.step for look in read_looks(opened.folder / "looks.json")] == [0, 1, 2, 3, 4]


def test_it_stops_where_the_aim_was_passed(opened) -> None:
    opened.looks[3] = look(3, past=True)
    assert run(opened) == 3
    assert opened.model.weight.item() == 2


def test_it_stops_where_the_budget_breaks_and_keeps_nothing_where_that_is_at_once(opened) -> None:
    opened.looks[2] = look(2, in_budget=False)
    assert run(opened) == 2
    assert opened.model.weight.item() == 1
    opened.looks[1] = look(1, in_budget=False)
    (opened.folder / "looks.json").unlink()
    with pytest.raises(NothingKept, match="retain loss had risen"):
        run(opened)


@pytest.mark.parametrize(("killed", "behind"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1)])
def test_a_kill_after_any_look_changes_nothing(opened, killed: int, behind: int) -> None:
    """The checkpoint that is gone on from is that of the last look, or of the one before where it was not written."""
    watch = opened.watch()
    state, control = SimpleNamespace(global_step=0), SimpleNamespace(should_training_stop=False)
    watch.on_train_begin(None, state, control, model=opened.model)
    for step in range(1, killed + 1):
        state.global_step = step
        opened.model.weight.data.fill_(step)
        watch.on_step_end(None, state, control, model=opened.model)
    opened.model.weight.data.fill_(killed - behind)
    assert run(opened, start=killed - behind) == 4
    assert opened.model.weight.item() == 2


def test_weights_of_an_earlier_look_are_there_for_a_checkpoint_that_is_behind(opened, monkeypatch) -> None:
    """The first look is kept until the third, whose checkpoint was not written any more."""
    for step, auc in {1: 0.7, 2: 0.8, 3: 0.6, 4: 0.9}.items():
        monkeypatch.setitem(AUCS, step, auc)
        opened.looks[step] = look(step)
    watch = opened.watch()
    state, control = SimpleNamespace(global_step=0), SimpleNamespace(should_training_stop=False)
    watch.on_train_begin(None, state, control, model=opened.model)
    for step in (1, 2, 3):
        state.global_step = step
        opened.model.weight.data.fill_(step)
        watch.on_step_end(None, state, control, model=opened.model)
    assert run(opened, start=2) == 4
    assert opened.model.weight.item() == 3
