# SPDX-License-Identifier: Apache-2.0
"""The held-out loss before and after: right, measured once, kept, and said."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.nn import functional as F
from transformers import TrainerCallback

from reticent.cli.main import main
from reticent.core.record import Record, write_records
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import same
from reticent.testing.tiny import save_tiny
from reticent.train import trainer
from reticent.train.checkpoints import folder_for
from reticent.train.config import TuneConfig
from reticent.train.held_out import base_loss, perplexity, sentence, sentence_of
from reticent.train.trainer import LOG, tune

RECORDS = [
    Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer {i}", user=f"u{i % 12}")
    for i in range(24)
]
HELD_OUT = [Record(id=f"h{i}", text=f"order {i * 104729 % 1000} of {'the ' * i}customer") for i in range(5)]
SETTINGS = TuneConfig(epochs=2, learning_rate=1e-3, batch_size=8, max_tokens=64, dtype="float32")
PRIVATE = PrivacySpec(epsilon=8, unit="user")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base", arch="gpt2"))


def log_of(out: Path) -> dict[str, Any]:
    return json.loads((out / LOG).read_text(encoding="utf-8"))


def slowly(folder: str) -> float:
    """One text at a time, its first token left out: nothing stands before it in the base."""
    loaded = load(folder, dtype="float32")
    total, tokens = 0.0, 0
    for record in HELD_OUT:
        one = encode(record, loaded.tokenizer, add_eos=True)
        ids = loaded.model.dummy_inputs["input_ids"].new_tensor(one.token_id.astype("int64"))[None]
        logits = loaded.model(input_ids=ids).logits[0, -len(one) :]  # those of virtual tokens stand before
        total += F.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum").item()
        tokens += len(one) - 1
    return total / tokens


@pytest.mark.parametrize(("method", "spec"), [("full", None), ("prompt", None), ("lora", PRIVATE)])
def test_the_base_is_measured_as_it_came_and_the_outcome_as_it_was_saved(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], method: str, spec: PrivacySpec | None
) -> None:
    """Also where the method changes what the model says before it is trained, as a prompt does."""
    settings = replace(SETTINGS, method=method, batch_size=6)
    out = tune(base, RECORDS, tmp_path / "out", settings, held_out=HELD_OUT, privacy=spec)
    found = log_of(out)["held_out"]
    assert found["records"] == 5
    assert found["base"]["loss"] == pytest.approx(slowly(base), rel=1e-5)
    assert found["tuned"]["loss"] == pytest.approx(slowly(str(out)), rel=1e-5)
    assert found["base"]["perplexity"] == pytest.approx(math.exp(found["base"]["loss"]))
    first = log_of(out)["history"][0]
    assert (first["step"], first["base_loss"]) == (0, found["base"]["loss"])
    said = sentence(5, found["base"]["perplexity"], found["tuned"]["perplexity"])
    assert "".join(capfd.readouterr()).strip().endswith(said)
    tune(base, RECORDS, out, settings, held_out=HELD_OUT, privacy=spec)
    assert "".join(capfd.readouterr()).strip().endswith(said)


def test_without_held_out_records_nothing_is_measured_or_said(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "held_out_loss", lambda *args, **kwargs: pytest.fail("measured"))
    out = tune(base, RECORDS, tmp_path / "out", SETTINGS)
    assert "held_out" not in log_of(out)
    assert not any("base_loss" in row for row in log_of(out)["history"])
    assert "perplexity" not in "".join(capfd.readouterr())
    assert sentence_of(log_of(out)) == ""


class Killed(BaseException):
    """Nothing catches it."""


class Kill(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


@pytest.mark.parametrize("step", [1, 5])
def test_killed_and_called_again_it_is_not_measured_again(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before the first checkpoint, and after it."""
    whole = tune(base, RECORDS, tmp_path / "whole", SETTINGS, held_out=HELD_OUT)
    with pytest.raises(Killed):
        tune(base, RECORDS, tmp_path / "killed", SETTINGS, held_out=HELD_OUT, callbacks=[Kill(step)])
    monkeypatch.setattr(trainer, "held_out_loss", lambda *args, **kwargs: pytest.fail("measured again"))
    again = tune(base, RECORDS, tmp_path / "killed", SETTINGS, held_out=HELD_OUT)
    assert same(whole, again)
    assert log_of(whole)["held_out"] == log_of(again)["held_out"]
    rows = [[row for row in log_of(out)["history"] if "base_loss" in row] for out in (whole, again)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1
    assert not folder_for(again).exists()


class EndsEarly(TrainerCallback):  # type: ignore[misc]
    """Between two evaluations of a private training."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 3


def test_after_an_early_end_the_weights_that_are_kept_are_measured(base: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, batch_size=6)
    out = tune(base, RECORDS, tmp_path / "out", settings, held_out=HELD_OUT, privacy=PRIVATE, callbacks=[EndsEarly()])
    log = log_of(out)
    assert [row["step"] for row in log["history"] if "eval_loss" in row][-1] == 2
    assert log["held_out"]["tuned"]["loss"] == pytest.approx(slowly(str(out)), rel=1e-5)


def test_a_broken_note_is_measured_anew(tmp_path: Path) -> None:
    assert base_loss(tmp_path, lambda: 2.5) == 2.5
    assert base_loss(tmp_path, lambda: 9.0) == 2.5
    for broken in ("", "{", "[]", '{"base_loss": "much"}', '{"base_loss": null}'):
        (tmp_path / "base_loss.json").write_text(broken)
        assert base_loss(tmp_path, lambda: 3.5) == 3.5


def test_the_sentence_says_what_came_of_it() -> None:
    assert sentence(64, 26.1, 16.8) == "perplexity on 64 held-out records: 26.1 before, 16.8 after"
    assert sentence(64, 26.1, 30.0).endswith("30.0 after: training made it worse")
    assert sentence(64, 26.1, 26.1).endswith("26.1 after: training changed nothing")
    assert sentence(2, perplexity(900.0), 1.5) == "perplexity on 2 held-out records: 1e+304 before, 1.50 after"


def test_the_command_says_it_with_and_without_the_monitor(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mails = [Record(id=f"m{i}", text=f"order {i * 7919 % 1000} for customer {i}") for i in range(60)]
    write_records(tmp_path / "mails.parquet", mails)
    given = [str(tmp_path / "mails.parquet"), "--model", base, "--epochs", "1", "--max-tokens", "32"]
    for name, more in (("plain", []), ("watched", ["--monitor", "--panel", "20"])):
        assert main(["tune", *given, "--out", str(tmp_path / name), *more]) == 0
        said = "".join(capfd.readouterr())
        assert said.count("held-out records: ") == 1
        assert " before, " in said
        assert " after\n" in said
