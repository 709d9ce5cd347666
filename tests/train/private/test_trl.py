# SPDX-License-Identifier: Apache-2.0
"""TRL's SFTTrainer, private: two lines more than without privacy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import trl
from peft import LoraConfig

from reticent.core.errors import BadInput
from reticent.core.run_folder import PROMISE_FILE
from reticent.models.load import load
from reticent.privacy.plan import make_plan
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import save_tiny, tiny_model, tiny_tokenizer
from reticent.train.private.private_trainer import PrivateTrainerMixin, open_key


class PrivateSFTTrainer(PrivateTrainerMixin, trl.SFTTrainer):  # type: ignore[misc, name-defined]
    """What a user of TRL writes."""


def mails(n: int, step: int) -> Any:
    rows = [{"text": f"order {i * step % 1000} of {'the ' * (i % 6)}customer", "user": f"u{i % 9}"} for i in range(n)]
    return datasets.Dataset.from_list(rows)


def chats(n: int) -> Any:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"where is order {i * 7919 % 1000}?"}],
            "completion": [{"role": "assistant", "content": f"at the customer {i}"}],
            "user": f"u{i % 9}",
        }
        for i in range(n)
    ]
    return datasets.Dataset.from_list(rows)


def arguments(out: Path, **changes: Any) -> Any:
    usual = {
        "output_dir": str(out),
        "max_length": 64,
        "max_grad_norm": 0.0,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
    }
    return trl.SFTConfig(**(usual | changes))


def trainer(out: Path, data: Any, *, unit: str = "user", **more: Any) -> Any:
    args = arguments(out, **more.pop("args", {}))
    spec = PrivacySpec(epsilon=8, unit=unit)
    return PrivateSFTTrainer(
        model=more.pop("model", None) or tiny_model(),
        args=args,
        processing_class=tiny_tokenizer(),
        train_dataset=data,
        plan=lambda people: make_plan(spec, people, batch_size=4, steps=4, key=open_key(args.output_dir)),
        **more,
    )


def test_a_model_is_trained_evaluated_saved_and_reloads(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    one = trainer(
        tmp_path / "run",
        mails(40, 7919),
        model=load(str(base), dtype="float32").model,
        eval_dataset=chats(4),
        args={"eval_strategy": "steps", "eval_steps": 2, "bf16": True, "gradient_checkpointing": True},
    )
    assert one.train().global_step == 4
    assert "ε = 8.00 per user" in one.promise.sentence()
    one.save_model(str(tmp_path / "model"))
    again = load(str(tmp_path / "model"), dtype="float32")
    assert (tmp_path / "model" / PROMISE_FILE).exists()
    assert again.fingerprint != load(str(base), dtype="float32").fingerprint
    assert all(check.passed for check in one.verify_saved(tmp_path / "model"))
    logged = {name for entry in one.state.log_history for name in entry if not name.startswith("eval_")}
    assert logged == {"learning_rate", "epoch", "step", "train_runtime", "train_steps_per_second"}
    evaluations = [entry["eval_loss"] for entry in one.state.log_history if "eval_loss" in entry]
    assert len(evaluations) == 2
    assert all(math.isfinite(loss) for loss in evaluations)


def test_an_adapter_is_trained_on_answers_alone(tmp_path: Path) -> None:
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    one = trainer(tmp_path, chats(30), unit="record", peft_config=lora)
    batch = next(iter(one._micro_batches(one.plan.sampler.batch(0))))
    trained = (batch.labels != -100).sum(1)
    assert bool((trained > 0).all())
    assert bool((trained < batch.inputs["attention_mask"].sum(1) - 5).all())
    before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
    one.train()
    for name, parameter in one.model.named_parameters():
        assert ("lora" in name) == parameter.requires_grad != torch.equal(parameter, before[name]), name


def test_packing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="share a row"):
        trainer(tmp_path, mails(40, 7919), args={"packing": True, "packing_strategy": "wrapped"})


def test_shuffling_before_the_plan_is_made_mixes_up_nobody(tmp_path: Path) -> None:
    one = trainer(tmp_path, mails(40, 7919), args={"shuffle_dataset": True})
    for unit in (unit for step in range(4) for unit in one.plan.sampler.batch(step)):
        assert len({one.train_dataset[piece.record]["user"] for row in unit for piece in row}) == 1
