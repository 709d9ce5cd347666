# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import GPT2LMHeadModel, TrainerCallback

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.testing.saved import same
from reticent.testing.tiny import save_tiny, tiny_model
from reticent.train import outcome
from reticent.train.checkpoints import folder_for
from reticent.train.trainer import LOG, TuneConfig, tune

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer") for i in range(20)]
HELD_OUT = [Record(id=f"h{i}", text=f"order {i * 104729 % 1000} of the customer") for i in range(5)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Has dropout, so the random state matters."""
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base", arch="gpt2"))


def config(**changes: Any) -> TuneConfig:
    return TuneConfig(**({"learning_rate": 1e-3, "epochs": 3, "batch_size": 8} | changes))


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches kill -9."""


class Kill(TrainerCallback):  # type: ignore[misc]
    """Dies at a step, leaving a checkpoint half written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            half = Path(args.output_dir) / "checkpoint-99"
            half.mkdir()
            (half / "model.safetensors").write_bytes(b"half")
            raise Killed


def test_it_learns_and_says_how(base: str, tmp_path: Path) -> None:
    out = tune(base, RECORDS, tmp_path / "out", config(epochs=5), held_out=HELD_OUT)
    loaded = load(str(out), dtype="float32")
    log = json.loads((out / LOG).read_text())
    held_out_loss = [entry["eval_loss"] for entry in log["history"] if "eval_loss" in entry]
    assert len(held_out_loss) == 5
    assert held_out_loss[-1] < held_out_loss[0] - 0.3
    assert log["records"] == 20
    assert log["trained_parameters"] == sum(p.numel() for p in tiny_model("gpt2").parameters())
    assert loaded.tuned is not None
    assert (loaded.tuned.method, loaded.base_source) == ("full", base)
    assert not folder_for(out).exists()
    assert not any(record.text in (out / LOG).read_text() for record in RECORDS if record.text)


def test_the_held_out_loss_weighs_tokens_evenly(base: str, tmp_path: Path) -> None:
    """Against the obvious twin: one record at a time, one token at a time."""
    out = tune(base, RECORDS, tmp_path / "out", config(epochs=1, dtype="float32", batch_size=3), held_out=HELD_OUT)
    loaded = load(str(out), dtype="float32")
    logps = []
    for record in HELD_OUT:
        ids = torch.tensor(encode(record, loaded.tokenizer, add_eos=True).token_id.astype(np.int64))
        logp = torch.log_softmax(loaded.model(ids[None]).logits[0], dim=-1)
        logps += [logp[t - 1, ids[t]].item() for t in range(1, len(ids))]
    log = json.loads((out / LOG).read_text())
    found = [entry for entry in log["history"] if "eval_loss" in entry][-1]
    assert found["eval_loss"] == pytest.approx(-np.mean(logps), rel=1e-4)
    assert found["eval_perplexity"] == pytest.approx(np.exp(found["eval_loss"]))


def test_the_same_seed_gives_the_same_weights(base: str, tmp_path: Path) -> None:
    runs = [tune(base, RECORDS, tmp_path / str(i), config(epochs=1, seed=seed)) for i, seed in enumerate((0, 0, 1))]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("method", ["full", "head", "lora", "adapter", "prompt"])
def test_killed_and_called_again_it_ends_with_the_same_weights(base: str, tmp_path: Path, method: str) -> None:
    settings = config(method=method, method_params={"dropout": 0.2} if method == "lora" else {})
    whole = tune(base, RECORDS, tmp_path / "whole", settings, held_out=HELD_OUT)
    with pytest.raises(Killed):
        tune(base, RECORDS, tmp_path / "killed", settings, held_out=HELD_OUT, callbacks=[Kill(8)])
    assert not (tmp_path / "killed").exists()
    seen: list[int] = []
    again = tune(base, RECORDS, tmp_path / "killed", settings, held_out=HELD_OUT, callbacks=[Count(seen)])
    assert seen == [7, 8, 9]  # two epochs of three steps were kept
    assert same(whole, again)
    assert not folder_for(again).exists()


class Count(TrainerCallback):  # type: ignore[misc]
    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(state.global_step)


def test_finished_it_returns_at_once_and_refuses_to_overwrite(base: str, tmp_path: Path) -> None:
    seen: list[int] = []
    out = tune(base, RECORDS, tmp_path / "out", config(epochs=1))
    tune(base, RECORDS, out, config(epochs=1), callbacks=[Count(seen)])
    assert seen == []
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, RECORDS, out, config(epochs=2))
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, RECORDS[1:], out, config(epochs=1))
    tune(base, RECORDS, out, config(epochs=1, resume=False), callbacks=[Count(seen)])
    assert seen == [1, 2, 3]


def test_a_folder_that_no_training_made_is_never_replaced(base: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for resume in (True, False):
        with pytest.raises(BadInput, match="not made by a tuning"):
            tune(base, RECORDS, tmp_path / "mine", config(resume=resume))
    assert (tmp_path / "mine" / "letter.txt").exists()


def test_an_unfinished_training_of_something_else_is_not_gone_on_with(base: str, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        tune(base, RECORDS, tmp_path / "out", config(), callbacks=[Kill(4)])
    with pytest.raises(BadInput, match="unfinished training with other settings"):
        tune(base, RECORDS, tmp_path / "out", config(seed=5))
    seen: list[int] = []
    tune(base, RECORDS, tmp_path / "out", config(seed=5, resume=False), callbacks=[Count(seen)])
    assert seen == list(range(1, 10))


def test_prompts_are_not_learnt(base: str, tmp_path: Path) -> None:
    """With all but the completion masked, what stands in prompts must not change what is trained on."""
    one = [Record(id="1", prompt="aaaa", completion="b")]
    out = tune(base, one, tmp_path / "out", config(epochs=8, dtype="float32", learning_rate=1e-2))
    model = load(str(out), dtype="float32")
    ids = torch.tensor(encode(one[0], model.tokenizer).token_id.astype(np.int64))[None]
    before = torch.log_softmax(tiny_model("gpt2")(ids).logits[0], -1)
    after = torch.log_softmax(model.model(ids).logits[0], -1)
    assert after[3, ids[0, 4]] > before[3, ids[0, 4]] + 1  # "b" after "aaaa"
    assert after[1, ids[0, 2]] < before[1, ids[0, 2]] + 0.5  # "a" after "aa"


def test_divergence_is_an_error_and_leaves_nothing(base: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"learning_rate=1e\+30.*diverged.*lower"):
        tune(base, RECORDS, tmp_path / "out", config(learning_rate=1e30, warmup=0.0, dtype="float32"))
    assert not (tmp_path / "out").exists()
    assert not folder_for(tmp_path / "out").exists()


def test_a_full_disk_is_an_error_that_keeps_the_last_checkpoint(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = GPT2LMHeadModel.save_pretrained, []

    def fills_up(model: Any, *args: Any, **kwargs: Any) -> None:
        saved.append(1)
        if len(saved) == 2:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(model, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(GPT2LMHeadModel, "save_pretrained", fills_up)
        with pytest.raises(BadInput, match="disk is full"):
            tune(base, RECORDS, tmp_path / "out", config())
    assert not (tmp_path / "out").exists()
    seen: list[int] = []
    tune(base, RECORDS, tmp_path / "out", config(), callbacks=[Count(seen)])
    assert seen == [4, 5, 6, 7, 8, 9]


def test_a_disk_that_is_too_small_is_refused_before_the_work(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {"bytes": 4 * 7 * 50_848}  # two checkpoints of three numbers a weight, and the outcome
    monkeypatch.setattr(outcome.shutil, "disk_usage", lambda path: SimpleNamespace(free=free["bytes"]))
    tune(base, RECORDS, tmp_path / "fits", config(epochs=1))
    free["bytes"] -= 1
    with pytest.raises(BadInput, match="checkpoints need"):
        tune(base, RECORDS, tmp_path / "does not", config(epochs=1))


def test_bad_input(base: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none has a token to train on"):
        tune(base, [Record(id="1", text="")], tmp_path / "out", config())
    with pytest.raises(BadInput, match="Did you mean 'lora'"):
        tune(base, RECORDS, tmp_path / "out", config(method="lorra"))
    with pytest.raises(BadInput, match="at most 512 tokens"):
        tune(base, [Record(id="1", text="x" * 600)], tmp_path / "out", config(max_tokens=600))
    adapter = tune(base, RECORDS, tmp_path / "adapter", config(method="lora", epochs=1))
    with pytest.raises(BadInput, match="only whole models"):
        tune(str(adapter), RECORDS, tmp_path / "out", config())
    assert not (tmp_path / "out").exists()
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"warmup": 1.0}, {"dtype": "int8"}, {"learning_rate": -1.0}):
        with pytest.raises(BadInput):
            config(**wrong)
