# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch.utils.data import IterableDataset
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from reticent.core.errors import BadInput
from reticent.core.run_folder import PROMISE_FILE
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.plan import PrivacyPlan, make_plan
from reticent.privacy.sampling import Population
from reticent.privacy.self_check import GuaranteeViolated, SelfCheckItem
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import tiny_model, tiny_of_family
from reticent.train.private import private_trainer as private
from reticent.train.private.private_trainer import PrivateSpeed, PrivateTrainerMixin, population_of
from reticent.train.private.step_log import KEY, open_key

SECRET, OTHER = (hashlib.sha256(name).digest() for name in (b"a key for tests", b"another"))


class PrivateTrainer(PrivateTrainerMixin, Trainer):  # type: ignore[misc]
    """What a user of transformers writes."""


def records(n: int, *, length: int | None = None, seed: int = 0, users: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = [
        {"input_ids": rng.integers(5, 250, size=length or rng.integers(3, 20)).tolist()} for _ in range(n)
    ]
    return [row | {"user": f"u{i % users}"} for i, row in enumerate(rows)] if users else rows


def arguments(out: Path, **changes: Any) -> TrainingArguments:
    usual = {
        "output_dir": str(out),
        "max_grad_norm": 0.0,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "remove_unused_columns": False,
    }
    return TrainingArguments(**(usual | changes))


def plan(population: Population, *, batch: int, steps: int, key: bytes = SECRET, **spec: Any) -> PrivacyPlan:
    wanted = PrivacySpec(**({"noise_multiplier": 1.0} | spec))
    return make_plan(wanted, population, batch_size=batch, steps=steps, key=key)


def trainer(data: list[dict[str, Any]], out: Path, **more: Any) -> PrivateTrainer:
    model = more.pop("model", None) or tiny_model()
    speed, callbacks = more.pop("speed", None), more.pop("callbacks", None)
    args, held_out = more.pop("args", None) or arguments(out), more.pop("eval_dataset", None)
    return PrivateTrainer(
        model=model,
        args=args,
        train_dataset=data,
        eval_dataset=held_out,
        plan=lambda population: plan(population, **more),
        speed=speed,
        callbacks=callbacks,
    )


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


class Unchecked:
    """In place of the self-check, which stops a training without noise."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def finished(self, promise: PrivacyGuarantee) -> tuple[SelfCheckItem, ...]:
        return ()

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: 0


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise."""

    def scaled(x: torch.Tensor, *, scale: float, **kwargs: Any) -> None:
        x.mul_(scale)

    monkeypatch.setattr(private, "add_noise", scaled)
    monkeypatch.setattr(private, "SelfCheck", Unchecked)


# ---- against ordinary training --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("impl", ["bookkeeping", "reference"])
@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_without_noise_and_clipping_it_is_the_ordinary_trainer(tmp_path: Path, impl: Any, optim: str) -> None:
    """All records in every step; as they are equally long, the mean over tokens is the mean over records."""
    data = records(12, length=10)
    rate = {"learning_rate": 1e-2, "optim": optim}
    one = trainer(
        data,
        tmp_path / "a",
        args=arguments(tmp_path / "a", **rate),
        batch=12,
        steps=4,
        clip_norm=1e6,
        speed=PrivateSpeed(impl=impl, micro_tokens=35),
    )
    one.train()
    labelled = [row | {"labels": row["input_ids"]} for row in data]
    args = arguments(tmp_path / "b", per_device_train_batch_size=12, max_steps=4, **rate)
    other = Trainer(model=tiny_model(), args=args, train_dataset=labelled)
    other.train()
    found, wanted = weights(one.model), weights(other.model)
    start = weights(tiny_model())
    for name in found:
        moved = (wanted[name] - start[name]).norm()
        assert float((found[name] - wanted[name]).norm()) <= 2e-3 * float(moved), name


@pytest.mark.usefixtures("silent")
def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    data = records(20)
    runs = []
    for tokens in (1, 100, 10_000):
        one = trainer(data, tmp_path, batch=10, steps=2, clip_norm=0.5, speed=PrivateSpeed(micro_tokens=tokens))
        one.train()
        runs.append(weights(one.model))
    for run in runs[1:]:
        for name, tensor in run.items():
            assert torch.allclose(tensor, runs[0][name], atol=2e-5), name


@pytest.mark.usefixtures("silent")
def test_a_user_is_the_mean_of_the_records_drawn_and_clipped_as_one(tmp_path: Path) -> None:
    """Users of 1, 2 and 5 records, of whom 3 are drawn; against a loop over users."""
    data = [row | {"user": user} for row, user in zip(records(8), "abbccccc", strict=True)]
    clip = 0.8
    one = trainer(
        data,
        tmp_path,
        args=arguments(tmp_path, optim="sgd", learning_rate=1.0, lr_scheduler_type="constant", weight_decay=0.0),
        batch=2,
        steps=1,
        unit="user",
        records_per_user=3,
        clip_norm=clip,
        key=next(key for key in keys() if len(_sampler(data, key, batch=2).batch(0)) == 3),
    )
    start = weights(one.model)
    units = one.plan.sampler.batch(0)
    assert sorted(map(len, units)) == [1, 2, 3]
    one.train()
    model = tiny_model().train()
    total = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for unit in units:
        losses = []
        for row in unit:
            ids = torch.tensor(data[row[0].record]["input_ids"])
            losses.append(F.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:]))
        gradients = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        assert norm > clip
        for name, gradient in zip(total, gradients, strict=True):
            total[name] += gradient * (clip / norm)
    for name, now in weights(one.model).items():
        assert torch.allclose(start[name] - now, total[name] / 2, atol=2e-6), name


def _sampler(data: list[dict[str, Any]], key: bytes, *, batch: int) -> Any:
    return plan(population_of(data), batch=batch, steps=1, unit="user", records_per_user=3, key=key).sampler


def keys() -> Iterator[bytes]:
    for i in range(256):
        yield hashlib.sha256(bytes([i])).digest()


# ---- noise ----------------------------------------------------------------------------------------------------------


def test_an_empty_batch_is_a_step_of_noise_of_the_promised_size(tmp_path: Path) -> None:
    """27,584 weights: the mean square of their noise is within 5 of its standard errors at an error below 1e-6."""
    data = records(30)
    key = next(k for k in keys() if not plan(population_of(data), batch=2, steps=1, key=k).sampler.batch(0))
    one = trainer(
        data,
        tmp_path,
        args=arguments(tmp_path, optim="sgd", learning_rate=0.5, lr_scheduler_type="constant", weight_decay=0.0),
        batch=2,
        steps=1,
        key=key,
        noise_multiplier=0.7,
        clip_norm=3.0,
    )
    start = weights(one.model)
    one.train()
    moved = torch.cat([(start[name] - now).flatten() for name, now in weights(one.model).items()]).double()
    std = 0.5 * 0.7 * 3.0 / 2
    n = moved.numel()
    assert float(moved.square().mean()) / std**2 == pytest.approx(1, abs=5 * math.sqrt(2 / n))
    assert abs(float(moved.mean())) < 5 * std / math.sqrt(n)


def test_noise_is_new_in_every_step_and_follows_the_key(tmp_path: Path) -> None:
    class Keep(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            steps.append(torch.cat([p.grad.flatten() for p in model.parameters()]))

    found = []
    for key in (SECRET, SECRET, OTHER):
        steps: list[torch.Tensor] = []
        trainer(records(30), tmp_path, batch=2, steps=3, noise_multiplier=50.0, key=key, callbacks=[Keep()]).train()
        found.append(torch.stack(steps))
    assert torch.equal(found[0], found[1])
    apart = torch.corrcoef(torch.cat([found[0], found[2]]))
    assert float((apart - torch.eye(6)).abs().max()) < 5 / math.sqrt(found[0].shape[1])


def test_an_engine_without_noise_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = private.add_noise
    monkeypatch.setattr(private, "add_noise", lambda x, **given: add(x, **(given | {"std": 0.0})))
    with pytest.raises(GuaranteeViolated, match="noise"):
        trainer(records(30), tmp_path, batch=10, steps=3).train()


# ---- what leaves the training ---------------------------------------------------------------------------------------


def test_nothing_exact_of_the_training_data_is_logged(tmp_path: Path) -> None:
    args = arguments(tmp_path, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2)
    one = trainer(records(30), tmp_path, args=args, eval_dataset=labelled(records(4, seed=1)), batch=10, steps=4)
    output = one.train()
    assert math.isnan(output.training_loss)
    names = {name for entry in one.state.log_history for name in entry if not name.startswith("eval_")}
    assert names == {"learning_rate", "epoch", "step", "train_runtime", "train_steps_per_second"}
    assert [entry["eval_loss"] for entry in one.state.log_history if "eval_loss" in entry][-1] > 0
    state = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    assert not any("loss" in entry or "grad_norm" in entry for entry in state["log_history"])
    assert state["epoch"] == pytest.approx(4 / 3)


def labelled(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    length = min(len(row["input_ids"]) for row in data)
    return [{"input_ids": row["input_ids"][:length], "labels": row["input_ids"][:length]} for row in data]


def test_the_saved_model_reloads_with_its_promise(tmp_path: Path) -> None:
    one = trainer(records(30), tmp_path / "run", batch=10, steps=3)
    one.train()
    one.save_model(str(tmp_path / "model"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, tensor in weights(again).items():
        assert torch.equal(tensor, weights(one.model)[name])
    promise = PrivacyGuarantee.from_json((tmp_path / "model" / PROMISE_FILE).read_text())
    assert promise == one.promise == one.plan.spent(3)
    assert all(check.passed for check in one.verify_saved(tmp_path / "model"))
    one.model.lm_head.weight.data[3, 3] += 1
    with pytest.raises(GuaranteeViolated, match="what is saved"):
        one.verify_saved(tmp_path / "model")


def test_the_model_is_as_before_around_steps(tmp_path: Path) -> None:
    """Callbacks may generate, evaluate and save: nothing of the clipper is attached then."""

    class Look(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            patched.append(any("forward" in module.__dict__ for module in model.modules()))
            model.generate(torch.tensor([[5, 6]]), max_new_tokens=2)

    patched: list[bool] = []
    trainer(records(30), tmp_path, batch=10, steps=2, callbacks=[Look()]).train()
    assert patched == [False, False]


@pytest.mark.parametrize("adapter", [False, True])
def test_dropout_and_adapters_can_be_trained(tmp_path: Path, adapter: bool) -> None:
    model = tiny_model("gpt2")
    if adapter:
        config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", fan_in_fan_out=True)
        model = get_peft_model(model, config)
    before = weights(copy.deepcopy(model))
    one = trainer(records(30), tmp_path, model=model, batch=10, steps=3)
    one.train()
    for name, parameter in one.model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


# ---- going on -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


class Kill(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise Killed


def resumable(out: Path, data: list[dict[str, Any]], **changes: Any) -> PrivateTrainer:
    args = arguments(out, save_strategy="steps", save_steps=2, **changes.pop("args", {}))
    model = tiny_model("gpt2")  # has dropout, so the random state matters
    return trainer(data, out, args=args, model=model, **({"batch": 8, "steps": 5, "key": open_key(out)} | changes))


def test_a_resumed_training_ends_with_the_same_weights_and_the_key_is_gone(tmp_path: Path) -> None:
    data = records(30, users=10)
    whole = resumable(tmp_path / "whole", data, unit="user")
    key = open_key(tmp_path / "whole")
    whole.train()
    assert not (tmp_path / "whole" / KEY).exists()

    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / KEY).write_bytes(key)
    with pytest.raises(Killed):
        resumable(tmp_path / "killed", data, unit="user", callbacks=[Kill()]).train()
    assert open_key(tmp_path / "killed") == key
    again = resumable(tmp_path / "killed", data, unit="user")
    again.train(resume_from_checkpoint=True)
    for name, tensor in weights(whole.model).items():
        assert torch.equal(tensor, weights(again.model)[name]), name
    assert again.promise == whole.promise
    assert not list((tmp_path / "killed").rglob(KEY))
    assert key not in b"".join(path.read_bytes() for path in (tmp_path / "killed").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "changes",
    [{"key": OTHER}, {"clip_norm": 2.0}, {"noise_multiplier": 2.0}, {"args": {"learning_rate": 2e-3}}],
    ids=str,
)
def test_another_training_is_not_gone_on_with(tmp_path: Path, changes: dict[str, Any]) -> None:
    data = records(30)
    with pytest.raises(Killed):
        resumable(tmp_path, data, callbacks=[Kill()]).train()
    with pytest.raises(BadInput, match="noise of its steps would be used twice"):
        resumable(tmp_path, data, **changes).train(resume_from_checkpoint=True)


def test_beginning_anew_with_the_same_key_needs_the_same_settings(tmp_path: Path) -> None:
    data = records(30)
    with pytest.raises(Killed):
        resumable(tmp_path, data, callbacks=[Kill()]).train()
    with pytest.raises(BadInput, match="noise of its steps would be used twice"):
        resumable(tmp_path, data, args={"learning_rate": 2e-3}).train()
    resumable(tmp_path, data).train()
    assert not (tmp_path / KEY).exists()


def test_a_plan_is_used_for_one_training(tmp_path: Path) -> None:
    one = trainer(records(30), tmp_path, batch=10, steps=2)
    one.train()
    with pytest.raises(BadInput, match="for a second time"):
        one.train()


# ---- refused --------------------------------------------------------------------------------------------------------


def test_settings_that_void_the_guarantee_are_refused(tmp_path: Path) -> None:
    data = records(10)
    for wrong, why in (
        ({"max_grad_norm": 1.0}, "clips the noised sum"),
        ({"gradient_accumulation_steps": 2}, "one optimizer step"),
        ({"max_steps": 7}, "the plan is for 2 steps"),
    ):
        with pytest.raises(BadInput, match=why):
            trainer(data, tmp_path, args=arguments(tmp_path, **wrong), batch=5, steps=2)
    with pytest.raises(BadInput, match="are trained on too"):
        trainer(data, tmp_path, eval_dataset=data[:2], batch=5, steps=2)


def test_a_plan_for_other_data_is_refused(tmp_path: Path) -> None:
    data = records(10, users=3)

    def give(people: Population | None, settled: PrivacyPlan) -> PrivateTrainer:
        return PrivateTrainer(
            model=tiny_model(), args=arguments(tmp_path), train_dataset=data, plan=settled, population=people
        )

    right = population_of(data)
    give(None, plan(right, batch=2, steps=2, unit="user"))
    swapped = Population(users=tuple(reversed(right.users)), lengths=right.lengths)
    shuffled = population_of(data[::-1])
    for people in (swapped, shuffled):
        settled = plan(people, batch=2, steps=2, unit="user")
        with pytest.raises(BadInput, match="users could be taken for others"):
            give(people, settled)
        with pytest.raises(BadInput, match="another population"):
            give(None, settled)


def test_a_batch_out_of_step_is_an_error(tmp_path: Path) -> None:
    one = trainer(records(10), tmp_path, batch=5, steps=2)
    with pytest.raises(RuntimeError, match="at step 0 and was given the batch of step 1"):
        one.training_step(one.model, {"step": 1, "units": []})


# ---- what leaves besides the weights ---------------------------------------------------------------------------------


class Stream(IterableDataset):  # type: ignore[misc]
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


@pytest.mark.parametrize("way", ["evaluate", "predict", "evaluate one of several"])
def test_private_records_are_not_evaluated(tmp_path: Path, way: str) -> None:
    """Their exact losses would be returned and logged; other records are evaluated as ever."""
    data, other = records(20, length=9), records(6, length=9, seed=1)
    one = trainer(data, tmp_path, batch=5, steps=2)
    ask = {
        "evaluate": one.evaluate,
        "predict": one.predict,
        "evaluate one of several": lambda rows: one.evaluate({"a": other, "b": rows}),
    }[way]
    for rows in (data, [*other, data[7]], [{"input_ids": list(data[3]["input_ids"])}]):
        with pytest.raises(BadInput, match=r"\d+ of \d+ records to evaluate or predict: are trained on too"):
            ask(rows)
    with pytest.raises(BadInput, match="a stream cannot be compared"):
        one.evaluate(Stream(data))
    assert not any("eval_loss" in entry for entry in one.state.log_history)
    ask(other)


def poisoned(data: list[dict[str, Any]], *, token: int = 255) -> Any:
    """A model that has no numbers for one token, which one record holds."""
    model = tiny_of_family("llama_untied")
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = math.nan
    data[4]["input_ids"][1] = token
    return model.requires_grad_(True)


@pytest.mark.parametrize("impl", ["bookkeeping", "reference"])
def test_a_record_without_a_finite_gradient_stops_nothing_and_adds_nothing(tmp_path: Path, impl: Any) -> None:
    """Nor is it said that there was one."""
    data = records(20)
    one = trainer(
        data, tmp_path, model=poisoned(data), batch=10, steps=4, speed=PrivateSpeed(impl=impl, micro_tokens=60)
    )
    one.train()
    assert all(check.passed for check in one.checks if check.name != "trained parameters read back from disk")
    for name, weight in one.model.named_parameters():
        rows = [row for row in range(len(weight)) if "embed" not in name or row != 255]
        assert bool(torch.isfinite(weight[rows]).all()), name
    assert "finite" not in json.dumps(one.state.log_history) + repr(one.checks)


def test_a_step_of_such_records_alone_is_one_too(tmp_path: Path) -> None:
    """All weights are finite but one, which the model had from the beginning: that is what ends it."""
    data = [{"input_ids": [255, 10 + place, 7, 8]} for place in range(8)]
    model = poisoned(records(20))
    one = trainer(data, tmp_path, model=model, batch=8, steps=2)
    with pytest.raises(BadInput, match=r"embed_tokens.weight first, are not finite any more"):
        one.train()
