# SPDX-License-Identifier: Apache-2.0
"""What a private training spent stays on record when no model comes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.self_check import GuaranteeViolated
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny
from reticent.train.begun import StartedTraining, begin, begun_file, ended, finished, read_begun
from reticent.train.checkpoints import folder_for
from reticent.train.config import TuneConfig
from reticent.train.private import private_trainer as private
from reticent.train.trainer import tune
from reticent.workflows.tune import tune as tune_run

RECORDS = [
    Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer {i}", user=f"u{i % 12}")
    for i in range(40)
]
USER = PrivacySpec(epsilon=8, unit="user")
CONFIG = TuneConfig(learning_rate=1e-3, epochs=2, batch_size=4, max_tokens=64)
"""Six steps; a checkpoint after the third."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base", arch="gpt2"))


class Killed(Exception):
    pass


class KillAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def promise_of(model: Path) -> PrivacyGuarantee:
    return PrivacyGuarantee.from_json((model / "privacy.json").read_text())


def test_a_killed_training_is_on_record_until_it_finished(base: str, tmp_path: Path) -> None:
    out = tmp_path / "model"
    for _ in range(2):
        with pytest.raises(Killed):
            tune(base, RECORDS, out, CONFIG, privacy=USER, callbacks=[KillAt(5)], data="print")
        (one,) = read_begun(out)
        assert (one.data, one.steps, one.broken, one.promise.steps) == ("print", None, False, 6)
    tune(base, RECORDS, out, CONFIG, privacy=USER, data="print")
    assert not begun_file(out).exists()
    assert one.promise == promise_of(out)


def test_a_training_that_was_started_over_stays_on_record(base: str, tmp_path: Path) -> None:
    out = tmp_path / "model"
    over = replace(CONFIG, resume=False)
    with pytest.raises(Killed):
        tune(base, RECORDS, out, over, privacy=USER, callbacks=[KillAt(5)])
    first = tune(base, RECORDS, out, over, privacy=USER)
    assert [(one.steps, one.promise.steps) for one in read_begun(out)] == [(None, 6)]
    old = promise_of(first)
    tune(base, RECORDS, out, over, privacy=USER)
    assert [(one.plan != "", one.steps) for one in read_begun(out)] == [(True, None), (False, 6)]
    assert read_begun(out)[1].promise == old


def test_divergence_is_on_record_with_its_steps_beside_the_checkpoints(base: str, tmp_path: Path) -> None:
    config = replace(CONFIG, learning_rate=1e30, warmup=0.0)
    with pytest.raises(BadInput, match="not finite"):
        tune_run(RECORDS, base=base, out=tmp_path / "run", tune_config=config, privacy=USER)
    run = RunFolder(root=tmp_path / "run")
    assert run.begun.name in {path.name for path in run.root.iterdir()}
    assert list(run.checkpoints.glob("checkpoint-*"))
    (one,) = read_begun(run.model)
    assert one.steps is not None
    assert 1 <= one.steps <= one.promise.steps
    assert not one.broken
    with pytest.raises(BadInput, match="other settings"):
        tune_run(RECORDS, base=base, out=tmp_path / "run", tune_config=CONFIG, privacy=USER)


@pytest.mark.parametrize(("first_bad", "on_record"), [(0, False), (2, True)])
def test_a_failed_check_is_on_record_as_not_covered_if_anything_was_seen(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_bad: int, on_record: bool
) -> None:
    add = private.add_noise

    def forgets(total: Any, *, step: int, **given: Any) -> Any:
        return add(total, step=step, **(given | ({"std": 0.0} if step >= first_bad else {})))

    monkeypatch.setattr(private, "add_noise", forgets)
    with pytest.raises(GuaranteeViolated):
        tune(base, RECORDS, tmp_path / "model", CONFIG, privacy=USER)
    assert [(one.steps, one.broken) for one in read_begun(tmp_path / "model")] == ([(3, True)] if on_record else [])


def test_what_was_refused_before_a_step_spent_nothing(base: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="so large"):
        tune(base, RECORDS, tmp_path / "other", CONFIG, privacy=replace(USER, delta=0.5))
    assert not begun_file(tmp_path / "other").exists()

    class Refuses(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            raise BadInput("this", "is refused", "Stop.")

    with pytest.raises(BadInput, match="is refused"):
        tune(base, RECORDS, tmp_path / "model", CONFIG, privacy=USER, callbacks=[Refuses()])
    assert not begun_file(tmp_path / "model").exists()


def test_the_places_are_those_that_the_run_folder_names(tmp_path: Path) -> None:
    run = RunFolder(root=tmp_path)
    assert begun_file(run.model) == run.begun
    assert folder_for(run.model) == run.checkpoints


def some(plan: str) -> StartedTraining:
    promise = PrivacyGuarantee(
        epsilon=1.0,
        delta=1e-5,
        unit="user",
        neighbouring="add or remove one user",
        mechanism="m",
        accountant="a",
        noise_multiplier=1.0,
        rate=0.1,
        steps=5,
        units=10,
        check=1.1,
    )
    return StartedTraining(plan=plan, data="d", promise=promise)


def test_the_file_keeps_each_training_once(tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert read_begun(out) == []
    for plan in ("p", "q", "p"):
        begin(out, some(plan))
    assert [one.plan for one in read_begun(out)] == ["p", "q"]
    ended(out, plan="p", steps=3, broken=True)
    assert read_begun(out)[0] == replace(some("p"), steps=3, broken=True)
    finished(out, plan="p", replaced=replace(some(""), steps=5))
    assert [one.plan for one in read_begun(out)] == ["q", ""]
    finished(out, plan="q")
    finished(out, plan="")
    assert not begun_file(out).exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"plan": "p"}', json.dumps({"plan": "p", "promise": {}})])
def test_a_broken_record_is_refused_not_passed_over(tmp_path: Path, text: str) -> None:
    out = tmp_path / "model"
    begun_file(out).write_text(text + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"broken|promise"):
        read_begun(out)
