# SPDX-License-Identifier: Apache-2.0
"""Two processes over gloo against one: the same rows in every step, the same weights, one set of files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from reticent.core.errors import BadInput
from reticent.core.processes import EndedElsewhere
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.testing.tiny import save_tiny
from reticent.train import leading
from reticent.train.leading import led, refuse_unled
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.objective import Objective, make_objective
from reticent.train.ranks import Ranks, _buckets, ranks
from reticent.train.trainer import LOG, TuneConfig, tune

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer") for i in range(17)]
"""The last batch of eight has one row, so the second process has none of it."""
HELD_OUT = [Record(id=f"h{i}", text=f"order {i * 104729 % 1000} of the customer") for i in range(5)]
Start = Callable[..., list[int]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "FAREWELL", 30.0)  # however slow this machine is just now


def config(**changes: Any) -> TuneConfig:
    return TuneConfig(**({"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "dtype": "float32"} | changes))


def trained(base: str, out: Path, settings: TuneConfig, **more: Any) -> Callable[[int], int]:
    """Work of a process: train together."""

    def work(rank: int) -> int:
        led("test", lambda: settings, lambda: tune(base, RECORDS, out, settings, held_out=HELD_OUT, **more))
        return 0

    return work


def same_weights(one: Path, two: Path) -> None:
    for name in ("model.safetensors", "adapter_model.safetensors"):
        if (one / name).exists():
            mine, theirs = load_file(one / name), load_file(two / name)
            assert mine.keys() == theirs.keys()
            assert max(float((mine[key] - theirs[key]).abs().max()) for key in mine) <= 1e-6


@pytest.mark.parametrize("settings", [config(), config(method="lora")], ids=["full", "lora"])
def test_two_processes_do_what_one_does(base: str, tmp_path: Path, in_ranks: Start, settings: TuneConfig) -> None:
    one = tune(base, RECORDS, tmp_path / "one", settings, held_out=HELD_OUT)
    two = tmp_path / "two"
    assert in_ranks(trained(base, two, settings)) == [0, 0]
    same_weights(one, two)
    files = [sorted(path.name for path in out.iterdir()) for out in (one, two)]
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    mine, theirs = (json.loads((out / LOG).read_text()) for out in (one, two))
    assert theirs["processes"] == {"world_size": 2, "strategy": "ddp", "rows": mine["processes"]["rows"]}
    for row, other in zip(mine["history"], theirs["history"], strict=True):
        timed = {name for name in row if name.endswith(("_seconds", "_runtime", "_per_second"))}
        assert row.keys() == other.keys()
        assert {k: v for k, v in row.items() if k not in timed} == pytest.approx(
            {k: v for k, v in other.items() if k not in timed}, rel=1e-5
        )


@pytest.mark.parametrize(
    ("settings", "objectives"),
    [
        (config(batch_size=6, method="prompt"), ()),
        (config(batch_size=6), (make_objective("loss_floor", {"floor": 5.0}),)),
        (config(batch_size=6, method="ia3"), (make_objective("label_smoothing"),)),
    ],
    ids=["prompt", "loss of a record", "loss of a token"],
)
def test_three_processes_weigh_losses_as_one_does(
    base: str, tmp_path: Path, in_ranks: Start, settings: TuneConfig, objectives: tuple[Objective, ...]
) -> None:
    one = tune(base, RECORDS, tmp_path / "one", settings, objectives=objectives)
    assert in_ranks(trained(base, tmp_path / "two", settings, objectives=objectives), size=3) == [0, 0, 0]
    same_weights(one, tmp_path / "two")


def test_nothing_is_done_where_processes_were_asked_for_different_things(
    tmp_path: Path, in_ranks: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    def work(rank: int) -> int:
        try:
            led("reticent tune", lambda: config(seed=rank), lambda: (tmp_path / "made").mkdir())
        except EndedElsewhere:
            return 7
        except BadInput as error:
            print(error)
            return error.exit_code
        return 0

    assert in_ranks(work) == [2, 7]
    said = capfd.readouterr().out
    assert said.count("process 1 of 2: was asked for something else than process 0 (reticent tune)") == 1
    assert not list(tmp_path.iterdir())


def failing(where: str, how: Callable[[], None]) -> Callable[[int], int]:
    """Work in which one process fails while the other waits for it."""

    def lead() -> None:
        ranks().all_do(_fail_if, where == "follower", how)
        if where == "leader":
            how()
        ranks().gather(0)

    def work(rank: int) -> int:
        console.quiet = False
        try:
            led("test", lambda: 0, lead)
        except EndedElsewhere as error:
            (Path.cwd() / f"silent{rank}").write_text(str(error))
            return error.exit_code
        except BadInput as error:
            (Path.cwd() / f"said{rank}").write_text(str(error))
            return error.exit_code
        return 0

    return work


def _fail_if(fails: bool, how: Callable[[], None]) -> None:
    if fails:
        how()
    ranks().gather(0)


def refuse() -> None:
    raise BadInput("the model", "is too large for this machine", "Take another.")


def fault() -> None:
    raise ValueError("a text that is private")


def die() -> None:
    os.kill(os.getpid(), 9)


def test_one_that_fails_ends_the_other_with_its_message(
    tmp_path: Path, in_ranks: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(where: str, how: Callable[[], None]) -> tuple[list[int], dict[str, str]]:
        folder = tmp_path / f"{where}-{how.__name__}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        seconds = 0.5 if how is die else 60.0  # where nobody answers, all of it is waited for
        monkeypatch.setattr(leading, "FAREWELL", seconds)
        monkeypatch.setattr(leading, "LINGER", seconds)
        return in_ranks(failing(where, how)), {path.name: path.read_text() for path in folder.iterdir()}

    too_large = "the model: is too large for this machine. Take another"
    assert outcome("leader", refuse) == ([2, 2], {"said0": f"{too_large}.", "silent1": f"process 0 of 2: {too_large}."})
    codes, said = outcome("follower", refuse)
    assert codes == [2, 2]
    assert said["said0"] == f"process 1 of 2: {too_large}. All processes were ended."
    assert "silent1" in said
    codes, said = outcome("follower", fault)
    assert (codes, "private" in said["said0"], "ValueError" in said["said0"]) == ([2, 2], False, True)
    codes, said = outcome("follower", die)
    assert codes == [2, -9]
    assert said["said0"].startswith("one of 2 processes: ended without a word")
    codes, said = outcome("leader", die)
    assert codes == [-9, 2]
    assert said["said1"].startswith("process 0 of 2: ended without a word")


def test_one_that_dies_while_they_meet_is_not_waited_for_all_week(
    in_ranks: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "JOIN", timedelta(seconds=8))
    met = torch.distributed.new_group

    def work(rank: int) -> int:
        torch.distributed.new_group = (lambda *given, **more: die()) if rank else met  # this process is a fork
        with pytest.raises(BadInput, match="the 2 processes did not find each other"):
            led("test", lambda: 3, lambda: "done")
        return 2

    started = time.monotonic()
    assert in_ranks(work) == [2, -9]
    assert time.monotonic() - started < 60


class LateWords:
    """Words of a leader that speaks and goes between two looks of one who follows."""

    def __init__(self) -> None:
        self.words: dict[str, bytes] = {}

    def check(self, keys: list[str]) -> bool:
        is_there = keys[0] in self.words
        if keys[0] == "failed/0" and not is_there:
            self.words["failed/0"] = b'{"said": "the model: is too large.", "exit_code": 2}'
            self.words["gone"] = b"1"
        return is_there

    def get(self, key: str) -> bytes:
        return self.words[key]

    def set(self, key: str, word: str) -> None:
        self.words[key] = word.encode()


def test_a_leader_is_heard_that_speaks_and_goes_at_once() -> None:
    here = Ranks(rank=1, size=2, store=LateWords())
    error = leading._behind_the_leader(here, ValueError("my own"), lost=False)
    assert isinstance(error, EndedElsewhere)
    assert str(error) == "process 0 of 2: the model: is too large."
    assert here.read("heard/1") == "1"


def test_several_processes_that_nobody_leads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unled("reticent.train.trainer.tune")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match=r"WORLD_SIZE=2: reticent.train.trainer.tune was started as one of 2"):
        refuse_unled("reticent.train.trainer.tune")


def test_tensors_are_dealt_out_and_brought_together() -> None:
    batch = {"labels": torch.arange(5)}
    shares = [Ranks(rank=rank, size=3).share(batch)["labels"].tolist() for rank in range(3)]
    assert shares == [[0, 3], [1, 4], [2]]
    mixed = [torch.zeros(3), torch.zeros(2, 2), torch.zeros(1, dtype=torch.float64), torch.zeros(2**23), torch.zeros(1)]
    assert [[tensor.numel() for tensor in bucket] for bucket in _buckets(mixed)] == [[3, 4], [1], [2**23], [1]]


class Ends(TrainerCallback):  # type: ignore[misc]
    """Ends the training in the leader, as the monitor does; the others have no such callback."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 2


def test_the_leader_ends_the_training_of_all(base: str, tmp_path: Path, in_ranks: Start) -> None:
    one = tune(base, RECORDS, tmp_path / "one", config(), held_out=HELD_OUT, callbacks=[Ends()])
    assert in_ranks(trained(base, tmp_path / "two", config(), callbacks=[Ends()])) == [0, 0]
    same_weights(one, tmp_path / "two")


def killed_at(step: int, which: int, work: Callable[[int], int]) -> Callable[[int], int]:
    """``work``, of which process ``which`` is killed in a step."""

    def dying(rank: int) -> int:
        leading.FAREWELL = leading.LINGER = 0.5  # this process is a fork
        whole = TuneTrainer.training_step

        def training_step(self: Any, *args: Any) -> Any:
            if self.state.global_step == step and rank == which:
                die()
            return whole(self, *args)

        TuneTrainer.training_step = training_step  # type: ignore[method-assign]
        return work(rank)

    return dying


def test_a_killed_training_goes_on_with_any_number_of_processes(base: str, tmp_path: Path, in_ranks: Start) -> None:
    one = tune(base, RECORDS, tmp_path / "one", config(), held_out=HELD_OUT)
    for name, which in (("two", 0), ("three", 1)):
        codes = in_ranks(killed_at(4, which, trained(base, tmp_path / name, config())))
        assert codes[which] == -9
        assert codes[1 - which] not in (0, -9)
        assert (tmp_path / f".{name}.training" / "checkpoint-3").is_dir()
    assert in_ranks(trained(base, tmp_path / "two", config())) == [0, 0]
    tune(base, RECORDS, tmp_path / "three", config(), held_out=HELD_OUT)
    logs = []
    for name in ("two", "three"):
        same_weights(one, tmp_path / name)
        logs.append(json.loads((tmp_path / name / LOG).read_text())["processes"])
    rows = json.loads((one / LOG).read_text())["processes"]["rows"]
    assert logs[0] == {"world_size": 2, "strategy": "ddp", "rows": rows}
    assert logs[1] == {"world_size": 1, "strategy": "none", "processes": [[0, 2], [3, 1]], "rows": rows}


def test_with_dropout_it_goes_on_with_as_many_alone(tmp_path: Path, in_ranks: Start) -> None:
    base = str(save_tiny(tmp_path / "base", arch="gpt2"))
    assert in_ranks(trained(base, tmp_path / "whole", config())) == [0, 0]
    assert in_ranks(killed_at(4, 1, trained(base, tmp_path / "two", config())))[1] == -9
    with pytest.raises(BadInput, match=r"1 process: the training was begun by 2, and its dropout.*Start 2"):
        tune(base, RECORDS, tmp_path / "two", config(), held_out=HELD_OUT)
    assert in_ranks(trained(base, tmp_path / "two", config())) == [0, 0]
    assert (tmp_path / "two/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_loss_that_is_not_finite_in_one_process_ends_all(
    base: str, tmp_path: Path, in_ranks: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    def work(rank: int) -> int:
        whole = TuneTrainer.batch_loss
        if rank == 1:
            TuneTrainer.batch_loss = lambda self, model, inputs: (  # type: ignore[method-assign, assignment]
                model(**inputs).loss * float("nan") if self.state.global_step == 1 else whole(self, model, inputs)
            )
        try:
            return trained(base, tmp_path / "two", config())(rank)
        except (BadInput, EndedElsewhere) as error:
            print(f"{type(error).__name__}: {error}")
            return 3

    assert in_ranks(work) == [3, 3]
    said = sorted(capfd.readouterr().out.splitlines())
    assert said[0].startswith("Diverged: learning_rate=0.001: the training diverged: the loss is nan at step 2")
    assert said[1].startswith("EndedElsewhere: process 0 of 2: learning_rate=0.001: the training diverged")
    assert not list(tmp_path.iterdir())


def test_processes_that_came_apart_are_seen(
    base: str, tmp_path: Path, in_ranks: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    """A planted fault: one process takes other steps than the other."""

    def work(rank: int) -> int:
        whole = Ranks.sum
        if rank == 1:
            Ranks.sum = lambda self, tensors: (whole(self, tensors), [t.mul_(2) for t in tensors])[0]  # type: ignore[assignment, method-assign, misc]
        try:
            return trained(base, tmp_path / "two", config())(rank)
        except (BadInput, EndedElsewhere) as error:
            print(error)
            return 3

    assert in_ranks(work) == [3, 3]
    assert "the weights after step 3: in process 1 of 2 are others than in process 0" in capfd.readouterr().out
