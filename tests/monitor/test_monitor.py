# SPDX-License-Identifier: Apache-2.0
"""The monitor in our trainer, in the library's and in TRL's: same weights, same looks after a kill, early stops."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import trl
from transformers import Trainer, TrainerCallback, TrainingArguments

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.snapshot import TrainingHistory
from reticent.data.split import split
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.monitor import monitor as module
from reticent.monitor.config import MonitorConfig
from reticent.monitor.log import read_history, read_panel
from reticent.monitor.monitor import Monitor
from reticent.monitor.panel import Panel, make_panel
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import equal, same
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.train import trainer as our_trainer
from reticent.train.batches import LengthGrouped
from reticent.train.config import TuneConfig
from reticent.workflows.tune import CanaryConfig, tune

EPOCHS = 3
TINY = TuneConfig(epochs=EPOCHS, learning_rate=1e-2, max_tokens=48, batch_size=4)
WATCHED = MonitorConfig(monitor=True, monitor_panel=20)
STOPPING = MonitorConfig(monitor_panel=20, stop_at="memorization")
SECRETS = CanaryConfig(canaries=6, canary_controls=20)
Undisturbed = Callable[[MonitorConfig], RunFolder]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


def mails(users: int = 30, each: int = 4) -> list[Record]:
    rng = random.Random(0)
    return [
        Record(id=f"u{user}m{mail}", text=f"mail {rng.randrange(10**9)}{' on' * rng.randrange(6)}", user=f"user {user}")
        for user in range(users)
        for mail in range(each)
    ]


def timeless(path: Path) -> Any:
    """monitor.json without what a clock said."""
    found = json.loads(path.read_text())
    for one in (found, *found["moments"]):
        for name in ("seconds", "trained_seconds", "training_seconds", "watching_seconds", "overhead"):
            one.pop(name, None)
    return found


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches kill -9."""


class Kill(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, **call: Any) -> None:
    own = our_trainer.assembled

    def with_kill(*args: Any, **kwargs: Any) -> Any:
        trainer, tuned = own(*args, **kwargs)
        trainer.add_callback(Kill(step))
        return trainer, tuned

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(our_trainer, "assembled", with_kill)
        tune(**call)


@pytest.fixture(scope="module")
def undisturbed(base: str, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Undisturbed:
    """By how it is watched, a training of `TINY` that nothing disturbs, made once. Do not change it."""
    root = tmp_path_factory.mktemp("undisturbed")

    @functools.cache
    def of(config: MonitorConfig) -> RunFolder:
        out = root / str(len(list(root.iterdir())))
        return tune(mails(), base=base, out=out, tune_config=TINY, monitor=config)

    return of


@pytest.mark.parametrize(
    ("method", "params", "dtype"),
    [
        ("full", {}, "float32"),
        ("full", {}, "bfloat16"),
        ("lora", {"r": 4, "dropout": 0.2}, "float32"),
        ("prompt", {"virtual_tokens": 3}, "float32"),
    ],
)
def test_weights_are_the_same_to_the_last_bit(
    base: str, tmp_path: Path, method: str, params: dict[str, Any], dtype: str
) -> None:
    config = TuneConfig(**{**vars(TINY), "method": method, "method_params": params, "dtype": dtype, "epochs": 2})
    how: dict[str, Any] = {"base": base, "tune_config": config, "canary_config": SECRETS}
    plain = tune(mails(), out=tmp_path / "plain", **how)
    every = MonitorConfig(monitor=True, monitor_panel=20, monitor_every=3)
    watched = tune(mails(), out=tmp_path / "watched", monitor=every, **how)
    assert same(plain.model, watched.model)
    assert len(read_history(watched.monitor).moments) > 3
    assert not plain.monitor.exists()


def test_what_is_looked_at_and_kept(base: str, tmp_path: Path) -> None:
    run = tune(mails(), base=base, out=tmp_path / "run", tune_config=TINY, canary_config=SECRETS, monitor=WATCHED)
    watch, table = read_history(run.monitor), read_panel(run.panel).to_pylist()
    assert [moment.epoch for moment in watch.moments] == [0, 1, 2, 3]
    assert watch.moments[0].phase == "start"
    assert watch.moments[1].phase == "fitting"
    assert watch.moments[-1].perplexity < watch.moments[0].perplexity
    assert set(watch.moments[-1].exposure) <= {"not planted (control)", *("planted once", "planted 4 times")} | {
        "planted 16 times"
    }
    assert watch.users > 10
    assert watch.training_seconds > 0
    steps = {moment.step for moment in watch.moments}
    assert {row["step"] for row in table} == steps
    assert len({row["record_id"] for row in table}) * len(steps) == len(table)
    first = [row for row in table if row["step"] == 0]
    assert all(row["nll"] == row["base_nll"] for row in first)
    assert all((row["first_seen"] == -1) != row["member"] for row in table)
    assert not any("eval_loss" in entry for entry in json.loads((run.model / "train_log.json").read_text())["history"])


def test_first_seen_is_the_step_whose_batch_held_the_record(undisturbed: Undisturbed) -> None:
    from reticent.core.membership import read_membership

    run = undisturbed(WATCHED)
    coins = read_membership(run.membership)
    trained = [record for record, member in zip(mails(), coins.member, strict=True) if member]
    encoded = [encode(record, tiny_tokenizer(), max_tokens=48, add_eos=True) for record in trained]
    order = list(LengthGrouped([len(one) for one in encoded], 4, TINY.seed))
    seen = {trained[row].id: place // 4 + 1 for place, row in enumerate(order)}
    rows = [row for row in read_panel(run.panel).to_pylist() if row["member"] and row["step"] == 0]
    assert {row["record_id"]: row["first_seen"] for row in rows} == {
        row["record_id"]: seen[row["record_id"]] for row in rows
    }


@pytest.mark.parametrize(("step", "every"), [(3, None), (15, None), (13, 4)])
def test_killed_and_called_again_it_saw_the_same(
    base: str,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    every: int | None,
) -> None:
    watched = MonitorConfig(monitor=True, monitor_panel=20, monitor_every=every)
    how: dict[str, Any] = {"records": mails(), "base": base, "tune_config": TINY, "monitor": watched}
    whole = undisturbed(watched)
    killed_at(step, monkeypatch, out=tmp_path / "killed", **how)
    killed = tune(out=tmp_path / "killed", **how)
    assert timeless(killed.monitor) == timeless(whole.monitor)
    assert read_panel(killed.panel).equals(read_panel(whole.panel))
    assert same(killed.model, whole.model)
    watch = read_history(killed.monitor)
    assert watch.training_seconds >= watch.moments[-1].trained_seconds


@pytest.fixture
def no_more_progress(undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second epoch on, memorization."""
    undisturbed(WATCHED)  # which others look at, so not in a world without progress
    monkeypatch.setattr(
        module,
        "phases",
        lambda perplexity, leak, epoch: ("start", "fitting", *["memorization"] * len(leak))[: len(leak)],
    )


def test_it_stops_at_memorization_with_the_weights_of_that_moment(
    undisturbed: Undisturbed, no_more_progress: None
) -> None:
    run = undisturbed(STOPPING)
    watch = read_history(run.monitor)
    assert [moment.epoch for moment in watch.moments] == [0, 1, 2]
    assert watch.stopped.startswith("after epoch 2.00")
    assert not same(run.model, undisturbed(WATCHED).model)
    seen = [row["nll"] for row in read_panel(run.panel).to_pylist() if row["step"] == watch.moments[-1].step]
    model = Monitor(_panel_of(run), tiny_tokenizer(), max_tokens=48).passes.look(
        load(str(run.model), dtype="float32", device="cpu").model
    )
    assert seen == pytest.approx(model.nll.tolist(), rel=1e-6)


def _panel_of(run: RunFolder) -> Panel:
    from reticent.core.membership import read_membership

    return make_panel(mails(), read_membership(run.membership), size=20)


def test_killed_between_the_stop_and_the_end_it_does_not_train_on(
    base: str, undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_more_progress: None
) -> None:
    how: dict[str, Any] = {"records": mails(), "base": base, "tune_config": TINY, "monitor": STOPPING}
    whole = undisturbed(STOPPING)

    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(our_trainer, "save", die)
        tune(out=tmp_path / "killed", **how)
    killed = tune(out=tmp_path / "killed", **how)
    assert same(killed.model, whole.model)
    assert timeless(killed.monitor) == timeless(whole.monitor)


def test_it_stops_when_members_are_said_word_for_word(base: str, tmp_path: Path) -> None:
    records = [Record(id=str(i), text=chr(65 + i % 26) * 3 + f" {i * 7919 % 9973}" * 6) for i in range(60)]
    config = TuneConfig(epochs=60, learning_rate=1e-2, max_tokens=48, batch_size=4, dtype="float32")
    stopping = MonitorConfig(monitor_panel=25, stop_at="ngrams")
    run = tune(records, base=base, out=tmp_path / "run", tune_config=config, monitor=stopping)
    watch = read_history(run.monitor)
    assert "word for word" in watch.stopped
    copied = [moment.copied for moment in watch.moments]
    start = copied[0].value + module.COPIED_RISE  # type: ignore[union-attr]
    assert copied[-1].lo > start  # type: ignore[union-attr]
    assert all(one.lo <= start for one in copied[1:-1])  # type: ignore[union-attr]


# ---- trainers of others ------------------------------------------------------------------------------------------


def panel(records: list[Record]) -> Panel:
    return make_panel(records, split(records, unit="record", seed=0), size=25)


def trained_on(records: list[Record], on: Panel) -> list[Record]:
    out = {record.id for record, member in zip(on.records, on.member, strict=True) if not member}
    return [record for record in records if record.id not in out]


def arguments(out: Path) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "epoch",
        "disable_tqdm": True,
    }


def plain_trainer(out: Path, records: list[Record]) -> Trainer:
    tokenizer = tiny_tokenizer()
    rows = [tokenizer(record.text, padding="max_length", max_length=40, truncation=True) for record in records]
    data = [{**row, "labels": row["input_ids"]} for row in rows]
    return Trainer(model=tiny_model(), args=TrainingArguments(**arguments(out)), train_dataset=data)


def test_in_the_librarys_trainer(tmp_path: Path) -> None:
    records = mails()
    on = panel(records)
    watched = Monitor(on, tiny_tokenizer(), tmp_path / "log")
    trainer = plain_trainer(tmp_path / "a", trained_on(records, on))
    trainer.add_callback(watched)
    trainer.train()
    bare = plain_trainer(tmp_path / "b", trained_on(records, on))
    bare.train()
    assert equal(trainer.model.state_dict(), bare.model.state_dict())
    watch = read_history(tmp_path / "log" / "monitor.json")
    assert watch == watched.watch
    assert [moment.epoch for moment in watch.moments] == [0, 1, 2]
    assert watch.moments[-1].auc is not None
    seen = read_panel(tmp_path / "log" / "panel.parquet").to_pylist()
    assert {row["first_seen"] for row in seen if row["member"]} == {None}
    assert {row["first_seen"] for row in seen if not row["member"]} == {-1}


def test_in_the_librarys_trainer_gone_on_with(tmp_path: Path) -> None:
    records = mails()
    on = panel(records)
    first = plain_trainer(tmp_path / "a", trained_on(records, on))
    first.add_callback(Monitor(on, tiny_tokenizer(), tmp_path / "log"))
    first.train()
    whole = timeless(tmp_path / "log" / "monitor.json")
    again = plain_trainer(tmp_path / "a", trained_on(records, on))
    again.add_callback(Monitor(on, tiny_tokenizer(), tmp_path / "log"))
    checkpoint = min((tmp_path / "a").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    again.train(resume_from_checkpoint=str(checkpoint))
    assert timeless(tmp_path / "log" / "monitor.json") == whole
    late = plain_trainer(tmp_path / "a", trained_on(records, on))
    late.add_callback(Monitor(on, tiny_tokenizer(), tmp_path / "elsewhere"))
    with pytest.raises(BadInput, match="was not looked at before"):
        late.train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize("lora", [False, True])
def test_in_trl(tmp_path: Path, lora: bool) -> None:
    from peft import LoraConfig

    records = mails()
    on = panel(records)

    def sft(name: str, **more: Any) -> Any:
        torch.manual_seed(0)
        return trl.SFTTrainer(
            model=tiny_model(),
            args=trl.SFTConfig(max_length=48, **arguments(tmp_path / name)),
            processing_class=tiny_tokenizer(),
            train_dataset=datasets.Dataset.from_list([{"text": record.text} for record in trained_on(records, on)]),
            peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.1) if lora else None,
            **more,
        )

    watched = Monitor(on, tiny_tokenizer())
    trainer = sft("a", callbacks=[watched])
    trainer.train()
    bare = sft("b")
    bare.train()
    assert equal(trainer.model.state_dict(), bare.model.state_dict())
    assert isinstance(watched.watch, TrainingHistory)
    assert [moment.step for moment in watched.watch.moments][-1] == trainer.state.global_step
    assert watched.watch.moments[-1].perplexity < watched.watch.moments[0].perplexity
    assert np.isfinite(watched.watch.moments[-1].gap.value)


# ---- refusals and flags ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", [WATCHED, MonitorConfig(stop_at="ngrams"), MonitorConfig(risk_list=True)])
def test_a_private_training_is_not_watched(base: str, tmp_path: Path, monitor: MonitorConfig) -> None:
    with pytest.raises(BadInput, match="does not cover"):
        tune(mails(), base=base, out=tmp_path / "run", privacy=PrivacySpec(epsilon=8), monitor=monitor)
    assert not (tmp_path / "run").exists()


def test_a_private_trainer_refuses_the_callback() -> None:
    from types import SimpleNamespace

    from reticent.train.private.logical_batches import LogicalBatches

    loader = SimpleNamespace(dataset=LogicalBatches.__new__(LogicalBatches))
    with pytest.raises(BadInput, match="differential privacy"):
        module._refuse(SimpleNamespace(world_size=1), loader)
    with pytest.raises(BadInput, match="one process"):
        module._refuse(SimpleNamespace(world_size=2), None)


@pytest.mark.parametrize(
    "wrong", [{"stop_at": "never"}, {"monitor_panel": 0}, {"monitor_every": -1}, {"risk_at": 0.0}, {"risk_at": 1.5}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        MonitorConfig(**wrong)


def test_a_run_that_was_not_watched_cannot_be_gone_on_with_watched(base: str, tmp_path: Path) -> None:
    tune(mails(), base=base, out=tmp_path / "run", tune_config=TINY)
    with pytest.raises(BadInput, match=r"other settings \(monitor\)"):
        tune(mails(), base=base, out=tmp_path / "run", tune_config=TINY, monitor=WATCHED)


def test_the_command_line_shows_the_table(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "mails.jsonl"
    data.write_text("".join(json.dumps({"text": one.text, "user": one.user, "id": one.id}) + "\n" for one in mails()))
    flags = ["--epochs", "2", "--batch_size", "4", "--monitor", "true", "--out", str(tmp_path / "run")]
    assert main(["tune", str(data), "--model", base, *flags]) == 0
    said = capsys.readouterr()
    for word in ("While it trained", "perplexity", "phase", "held-out records; looking took"):
        assert word in said.out + said.err
    assert read_history(tmp_path / "run" / "monitor.json").members >= 10
