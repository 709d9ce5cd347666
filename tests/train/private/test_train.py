# SPDX-License-Identifier: Apache-2.0
"""`tune` with a privacy spec: from records to a folder with a promise, interrupted or not."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.stats import norm
from transformers import TrainerCallback, TrainingArguments

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.sampling import Population
from reticent.privacy.self_check import GuaranteeViolated
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.train.batches import encode_all
from reticent.train.checkpoints import folder_for, recall_exact
from reticent.train.config import TuneConfig
from reticent.train.private import private_trainer as private
from reticent.train.private.step_log import KEY
from reticent.train.private.train import (
    perplexities,
    plan_for,
    private_arguments,
    refuse_units_on_both_sides,
    without_copies,
)
from reticent.train.trainer import LOG, tune

RECORDS = [
    Record(id=str(i), text=f"order {i * 7919 % 1000} of {'the ' * (i % 6)}customer {i}", user=f"u{i % 12}")
    for i in range(40)
]
HELD_OUT = [Record(id=f"h{i}", text=f"order {i * 104729 % 1000} of the customer") for i in range(5)]
USER = PrivacySpec(epsilon=8, unit="user")
SECRET = hashlib.sha256(b"a key for tests").digest()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "base", arch="gpt2"))


def config(**changes: Any) -> TuneConfig:
    return TuneConfig(**({"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, "max_tokens": 64} | changes))


def test_the_promise_lies_with_the_weights_and_nothing_exact_of_the_data(base: str, tmp_path: Path) -> None:
    out = tune(base, RECORDS, tmp_path / "out", config(), held_out=HELD_OUT, privacy=USER)
    promise = PrivacyGuarantee.from_json((out / "privacy.json").read_text())
    assert (promise.unit, promise.units, promise.steps) == ("user", 12, 6)
    assert 7.9 < promise.epsilon <= 8
    log = json.loads((out / LOG).read_text())
    assert log["privacy"]["epsilon"] == promise.epsilon
    assert all(check["passed"] for check in log["self_check"])
    assert {"key", "tokens", "truncated", "records", "seconds_since_start_or_resume"}.isdisjoint(log)
    assert {name for row in log["history"] for name in row} == {
        *("epoch", "step", "learning_rate", "eval_loss", "eval_perplexity", "base_loss", "base_perplexity")
    }
    assert recall_exact(out)["seconds_since_start_or_resume"] >= 0
    assert log["self_check"][-1]["name"] == "steps of the plan that were run"
    assert [entry["epoch"] for entry in log["history"] if "eval_loss" in entry] == [1, 2]
    assert not any("loss" in entry for entry in log["history"])
    assert load(str(out), dtype="float32").tuned is not None
    assert not folder_for(out).exists()


def test_finished_it_returns_at_once_and_refuses_another_promise(base: str, tmp_path: Path) -> None:
    out = tune(base, RECORDS, tmp_path / "out", config(), privacy=USER)
    before = (out / LOG).read_bytes()
    tune(base, RECORDS, out, config(), privacy=USER)
    assert (out / LOG).read_bytes() == before
    moved = [Record(id=one.id, text=one.text, user="u0") for one in RECORDS]
    for records, spec in ((RECORDS, PrivacySpec(epsilon=4, unit="user")), (RECORDS, None), (moved, USER)):
        with pytest.raises(BadInput, match="outcome of another training"):
            tune(base, records, out, config(), privacy=spec)


class Kill(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(base: str, out: Path) -> int:
    """Train in a fork of this process that kills itself, which costs no import of torch; its exit code."""
    child = os.fork()
    if child == 0:
        try:
            tune(base, RECORDS, out, config(), held_out=HELD_OUT, callbacks=[Kill()], privacy=USER)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_and_called_again_it_ends_with_the_same_weights(base: str, tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        folder_for(tmp_path / name).mkdir()
        (folder_for(tmp_path / name) / KEY).write_bytes(SECRET)
    whole = tune(base, RECORDS, tmp_path / "whole", config(), held_out=HELD_OUT, privacy=USER)
    assert killed(base, tmp_path / "killed") == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    assert (folder_for(tmp_path / "killed") / KEY).read_bytes() == SECRET
    again = tune(base, RECORDS, tmp_path / "killed", config(), held_out=HELD_OUT, privacy=USER)
    one, other = load_file(whole / "model.safetensors"), load_file(again / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (whole / "privacy.json").read_text() == (again / "privacy.json").read_text()
    assert not list(tmp_path.rglob(KEY))


def test_killed_while_saving_it_still_can_be_finished(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("reticent.train.trainer.save", killed)
        with pytest.raises(Killed):
            tune(base, RECORDS, tmp_path / "out", config(), privacy=USER)
    out = tune(base, RECORDS, tmp_path / "out", config(), privacy=USER)
    assert PrivacyGuarantee.from_json((out / "privacy.json").read_text()).steps == 6


def test_a_broken_promise_leaves_nothing(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = private.add_noise
    monkeypatch.setattr(private, "add_noise", lambda x, **given: add(x, **(given | {"std": 0.0})))
    with pytest.raises(GuaranteeViolated):
        tune(base, RECORDS, tmp_path / "out", config(), privacy=USER)
    assert not (tmp_path / "out").exists()
    assert not folder_for(tmp_path / "out").exists()


def test_weights_that_are_not_finite_end_the_run_and_take_no_checkpoint_with_them(base: str, tmp_path: Path) -> None:
    """What the data can bring about must not decide what is left of a private training."""
    out = tmp_path / "out"
    with pytest.raises(BadInput, match=r"weights, .* are not finite any more .*--learning_rate"):
        tune(base, RECORDS, out, config(learning_rate=1e30, warmup=0.5, epochs=6), privacy=USER)
    assert not out.exists()
    assert list(folder_for(out).glob("checkpoint-*"))


@pytest.mark.parametrize(
    "spec",
    [
        PrivacySpec(epsilon=8),
        PrivacySpec(epsilon=8, unit="user", record_selection="random_chunk", clipping="automatic"),
        PrivacySpec(epsilon=8, unit="user", record_selection="low_perplexity", records_per_user=2),
        PrivacySpec(
            noise_multiplier=1.0, unit="user", user_sampling="record", records_per_user=2, clipping="per_layer"
        ),
    ],
    ids=["record", "random_chunk", "low_perplexity", "els"],
)
def test_every_way_of_sampling_trains(base: str, tmp_path: Path, spec: PrivacySpec) -> None:
    out = tune(base, RECORDS, tmp_path / "out", config(method="lora", epochs=1), privacy=spec)
    assert PrivacyGuarantee.from_json((out / "privacy.json").read_text()).unit == spec.unit


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_both_optimizers_learn(base: str, tmp_path: Path, optimizer: str) -> None:
    """With little noise, so that a tiny model and few users can."""
    settings = config(epochs=6, batch_size=12, optimizer=optimizer, learning_rate=3e-3 if optimizer == "adamw" else 1.0)
    spec = PrivacySpec(noise_multiplier=0.05, unit="user")
    out = tune(base, RECORDS, tmp_path / "out", settings, held_out=HELD_OUT, privacy=spec)
    losses = [one["eval_loss"] for one in json.loads((out / LOG).read_text())["history"] if "eval_loss" in one]
    assert losses[-1] < losses[0] - 0.3


# ---- its parts ------------------------------------------------------------------------------------------------------


def test_perplexities_equal_a_loop_over_records() -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    encoded = encode_all(RECORDS[:7], tokenizer, 64).encoded
    found = perplexities(model, encoded)
    for record, value in zip(RECORDS, found, strict=False):
        ids = torch.tensor(encode(record, tokenizer, add_eos=True).token_id).long()
        loss = F.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:])
        assert value == pytest.approx(loss.exp().item(), rel=1e-4)


def test_records_that_are_the_same_after_cutting_count_once() -> None:
    records = [Record(id=str(i), text=text) for i, text in enumerate(["abcdef", "xyzxyz", "abcdxx"])]
    corpus = encode_all(records, tiny_tokenizer(), 4)
    assert without_copies(corpus, PrivacySpec(epsilon=8)).records == (0, 1)
    assert without_copies(corpus, PrivacySpec(epsilon=8, unit="user")).records == (0, 1, 2)


def test_what_is_trained_on_does_not_depend_on_what_is_held_out(base: str, tmp_path: Path) -> None:
    """A text of somebody who is held out may be another's, who is trained on, token for token: it stays."""
    twin = Record(id="twin", text=RECORDS[3].text, user="else")
    out = tune(base, RECORDS, tmp_path / "out", config(epochs=1), held_out=[*HELD_OUT, twin], privacy=USER)
    assert recall_exact(out)["records"] == len(RECORDS)
    log = json.loads((out / LOG).read_text())
    assert any("eval_loss" in entry for entry in log["history"])


@pytest.mark.parametrize(
    ("unit", "held_out"),
    [
        ("user", Record(id="h", text="else", user="u3")),
        ("user", Record(id="3", text="else", user="else")),
        ("record", Record(id="3", text="else")),
    ],
)
def test_units_that_are_trained_on_cannot_be_held_out(base: str, tmp_path: Path, unit: str, held_out: Record) -> None:
    spec = PrivacySpec(epsilon=8, unit=unit)
    with pytest.raises(BadInput, match=rf"1 of 6 held-out records: are of a {unit} that is trained on"):
        tune(base, RECORDS, tmp_path / "out", config(), held_out=[*HELD_OUT, held_out], privacy=spec)
    refuse_units_on_both_sides(PrivacySpec(epsilon=8), RECORDS, [Record(id="h", text="x", user="u3")])
    refuse_units_on_both_sides(USER, RECORDS, [Record(id="h", text="x")])


@pytest.mark.parametrize(
    ("spec", "batch", "expected", "steps"),
    [
        ({}, None, 100, 80),
        ({}, 300, 300, 30),
        ({"unit": "user"}, None, 12, 90),
        ({"unit": "user", "user_sampling": "record"}, None, 50, 80),
        ({"unit": "user"}, 100, 100, 10),
    ],
)
def test_batch_and_steps_follow_from_the_units(
    tmp_path: Path, spec: dict[str, Any], batch: int | None, expected: int, steps: int
) -> None:
    """800 records of 100 users, 8 of each, of which 4 count; ten epochs."""
    people = Population(users=tuple(f"u{i % 100}" for i in range(800)), lengths=(5,) * 800)
    settled = TuneConfig(batch_size=batch).settled(1e-3, private=True)
    plan = plan_for(PrivacySpec(noise_multiplier=1.0, **spec), people, settled, tmp_path)
    assert (plan.expected_batch, plan.steps) == (pytest.approx(expected), steps)


@pytest.mark.parametrize(
    ("spec", "most", "usual", "drawn"),
    [
        ({}, 800, 100, "records"),
        ({"unit": "user"}, 100, 12, "users"),
        ({"unit": "user", "user_sampling": "record"}, 400, 50, "records"),
        ({"unit": "user", "user_sampling": "group"}, 400, 50, "records"),
    ],
)
def test_a_step_holds_no_unit_twice(
    tmp_path: Path, spec: dict[str, Any], most: int, usual: int, drawn: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """More units a step than there are is refused; all of them in every step is said, and accounted for as no draw."""
    people = Population(users=tuple(f"u{i % 100}" for i in range(800)), lengths=(5,) * 800)
    wanted = PrivacySpec(epsilon=8, **spec)
    for batch in (most + 1, 100_000):
        settled = TuneConfig(batch_size=batch, epochs=3).settled(1e-3, private=True)
        match = (
            rf"batch_size={batch}: there are {most} {drawn} .*--batch_size {most} or less.*or leave it out \({usual}\)"
        )
        with pytest.raises(BadInput, match=match):
            plan_for(wanted, people, settled, tmp_path / "refused")
    assert "every step" not in "".join(capfd.readouterr())
    plan = plan_for(wanted, people, replace(settled, batch_size=most), tmp_path / "all")
    assert f"Every {drawn[:-1]} is in every step" in "".join(capfd.readouterr()).replace("\n", " ")
    assert (plan.sampler.rate, plan.steps) == (1.0, 3)
    assert all(len(plan.sampler.batch(step)) == most for step in range(3))
    if spec.get("user_sampling") is None:
        # Without draws it is three Gaussian mechanisms, that is one with μ = √3/σ (Dong, Roth and Su, 2022, cor. 2.13).
        mu = 3**0.5 / plan.noise_multiplier

        def delta(epsilon: float) -> float:
            return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)

        promised = plan.spent().epsilon
        assert delta(promised) <= plan.delta < delta(promised - 0.02)


def test_held_out_texts_are_not_read_in_the_large_batches_of_training(tmp_path: Path) -> None:
    people = Population(users=tuple(f"u{i}" for i in range(800)), lengths=(5,) * 800)
    settled = TuneConfig(batch_size=400).settled(1e-3, private=True)
    plan = plan_for(PrivacySpec(noise_multiplier=1.0), people, settled, tmp_path)
    given = TrainingArguments(output_dir=str(tmp_path), per_device_eval_batch_size=400, use_cpu=True)
    assert private_arguments(given, plan).per_device_eval_batch_size == 8


def test_progress_is_told_in_steps(base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Draws are independent: three steps of about half the users are no whole number of epochs."""
    tune(base, RECORDS, tmp_path / "out", config(epochs=1, batch_size=7), held_out=HELD_OUT, privacy=USER)
    said = "".join(capfd.readouterr())
    assert "step 2 of 2: held-out perplexity" in said
    assert "epoch" not in said


def test_defaults_depend_on_whether_it_is_private() -> None:
    plain, secret = TuneConfig().settled(5e-5), TuneConfig().settled(5e-5, private=True)
    assert (plain.epochs, plain.batch_size, plain.learning_rate) == (3, 8, 5e-5)
    assert (secret.epochs, secret.batch_size, secret.learning_rate) == (10, None, 3e-4)
    assert TuneConfig(method="lora").settled(5e-4, private=True).learning_rate == 5e-4
    assert TuneConfig(learning_rate=1e-2).settled(5e-4, private=True).learning_rate == 1e-2
    with pytest.raises(BadInput, match="no learning rate"):
        TuneConfig(optimizer="sgd")
    with pytest.raises(BadInput, match="not a known choice"):
        TuneConfig(optimizer="adam")
