# SPDX-License-Identifier: Apache-2.0
"""The learning rate from its rise to its end: by Hugging Face's names, private or not, and kept with the run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import TrainerCallback, get_scheduler

from reticent.cli.main import main
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.privacy.spec import PrivacySpec
from reticent.testing.saved import same
from reticent.testing.tiny import save_tiny
from reticent.train.config import SCHEDULES, TuneConfig
from reticent.train.trainer import tune
from reticent.workflows.tune import tune as tune_run

pytestmark = pytest.mark.slow
"""Minutes of training or of simulation."""

RECORDS = [Record(id=str(i), text=f"order {i * 7919 % 1000} for customer {i}") for i in range(24)]
STEPS, PEAK = 12, 1e-3
SETTINGS = TuneConfig(epochs=4, learning_rate=PEAK, batch_size=8, max_tokens=64, dtype="float32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base"))


class Rates(TrainerCallback):  # type: ignore[misc]
    """The learning rate of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> None:
        self.found.append(lr_scheduler.get_last_lr()[0])


def expected(name: str, rise: int) -> list[float]:
    """By the formula, for a step t that begins after t others."""
    down = {
        "linear": lambda t: (STEPS - t) / (STEPS - rise),
        "cosine": lambda t: (1 + math.cos(math.pi * (t - rise) / (STEPS - rise))) / 2,
        "constant": lambda t: 1.0,
        "constant_with_warmup": lambda t: 1.0,
        "inverse_sqrt": lambda t: math.sqrt(rise / t),
    }[name]
    rise = 0 if name == "constant" else rise
    return [PEAK * (t / rise if t < rise else down(t)) for t in range(STEPS)]


@pytest.mark.parametrize(("name", "private"), [*((name, False) for name in SCHEDULES), ("cosine", True)])
def test_each_schedule_is_the_one_of_its_name(base: str, tmp_path: Path, name: str, private: bool) -> None:
    rates = Rates()
    settings = replace(SETTINGS, lr_scheduler_type=name, warmup_steps=None if name == "constant" else 3)
    spec = PrivacySpec(epsilon=8) if private else None
    tune(base, RECORDS, tmp_path / "out", settings, privacy=spec, callbacks=[rates])
    assert rates.found == pytest.approx(expected(name, 3))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_names_are_hugging_faces(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    assert get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=STEPS) is not None


def test_the_default_falls_to_zero_after_a_twentieth_of_the_steps(base: str, tmp_path: Path) -> None:
    rates = Rates()
    tune(base, RECORDS, tmp_path / "out", SETTINGS, callbacks=[rates])
    assert rates.found == pytest.approx(expected("linear", 1))
    assert rates.found[-1] == pytest.approx(PEAK / 11)


class Killed(BaseException):
    """Nothing catches it."""


class Kill(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 7:
            raise Killed


@pytest.mark.parametrize("private", [False, True])
def test_a_training_that_goes_on_cannot_change_it(base: str, tmp_path: Path, private: bool) -> None:
    spec = PrivacySpec(epsilon=8) if private else None
    constant = replace(SETTINGS, lr_scheduler_type="constant")
    with pytest.raises(Killed):
        tune(base, RECORDS, tmp_path / "out", constant, privacy=spec, callbacks=[Kill()])
    for other in (SETTINGS, replace(SETTINGS, lr_scheduler_type="cosine"), replace(SETTINGS, warmup_steps=2)):
        with pytest.raises(BadInput, match="unfinished training with other settings"):
            tune(base, RECORDS, tmp_path / "out", other, privacy=spec)
    out = tune(base, RECORDS, tmp_path / "out", constant, privacy=spec)
    with pytest.raises(BadInput, match="outcome of another training"):
        tune(base, RECORDS, out, SETTINGS, privacy=spec)
    if not private:
        assert same(out, tune(base, RECORDS, tmp_path / "whole", constant))


def test_a_run_folder_of_an_earlier_version_goes_on_and_is_linear(base: str, tmp_path: Path) -> None:
    run = tune_run(RECORDS, base=base, out=tmp_path / "run", tune_config=replace(SETTINGS, epochs=1))
    said = yaml.safe_load((run.root / "tune.yaml").read_text())
    later = {"lr_scheduler_type", "warmup_steps", "shards", "base_dtype", "load_in", "gradient_checkpointing"}
    later |= {"strategy"}
    assert said["training"].keys() == asdict(SETTINGS).keys() - later
    again = tune_run(RECORDS, base=base, out=tmp_path / "run", tune_config=replace(SETTINGS, epochs=1))
    assert again == run
    for other in ({"lr_scheduler_type": "constant"}, {"warmup_steps": 1}):
        with pytest.raises(BadInput, match=r"other settings \(training\)"):
            tune_run(RECORDS, base=base, out=tmp_path / "run", tune_config=replace(SETTINGS, epochs=1, **other))
    constant = replace(SETTINGS, epochs=1, lr_scheduler_type="constant", warmup_steps=0)
    run = tune_run(RECORDS, base=base, out=tmp_path / "constant", tune_config=constant)
    said = yaml.safe_load((run.root / "tune.yaml").read_text())["training"]
    assert (said["lr_scheduler_type"], said["warmup_steps"]) == ("constant", 0)
    assert json.loads((run.model / "train_log.json").read_text())["config"]["lr_scheduler_type"] == "constant"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"lr_scheduler_type": "linaer"}, "linear"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "constant_with_warmup"),
        ({"lr_scheduler_type": ""}, "lr_scheduler_type"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"warmup_steps": 10**20}, "warmup_steps"),
        ({"warmup_steps": 5, "warmup": 0.1}, "Give one of them"),
        ({"lr_scheduler_type": "constant", "warmup": 0.1}, "constant_with_warmup"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, r"warmup_steps=5 .*constant_with_warmup"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        TuneConfig(**settings)
    TuneConfig(lr_scheduler_type="constant", warmup=0.0)
    TuneConfig(lr_scheduler_type="constant", warmup_steps=0)


@pytest.mark.parametrize("private", [False, True])
def test_a_rise_that_does_not_end_is_refused_before_a_step(base: str, tmp_path: Path, private: bool) -> None:
    spec = PrivacySpec(epsilon=8) if private else None
    with pytest.raises(BadInput, match=r"warmup_steps=12: the training has 12 steps"):
        tune(base, RECORDS, tmp_path / "out", replace(SETTINGS, warmup_steps=12), privacy=spec)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock"] or not list(tmp_path.iterdir())


def test_flags_under_hugging_faces_names(base: str, tmp_path: Path) -> None:
    (tmp_path / "mails.jsonl").write_text("".join(json.dumps({"text": one.text}) + "\n" for one in RECORDS))
    flags = ["--lr-scheduler-type", "cosine", "--warmup-steps", "1", "--num_train_epochs", "1", "--max-tokens", "32"]
    out = tmp_path / "run"
    assert main(["tune", str(tmp_path / "mails.jsonl"), "--model", base, "--out", str(out), *flags]) == 0
    config = json.loads((out / "model" / "train_log.json").read_text())["config"]
    assert (config["lr_scheduler_type"], config["warmup_steps"]) == ("cosine", 1)
