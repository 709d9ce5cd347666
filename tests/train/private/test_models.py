# SPDX-License-Identifier: Apache-2.0
"""Which models a private trainer takes, from beginning to end: by rule, by the loop, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaForSequenceClassification,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    XGLMConfig,
    XGLMForCausalLM,
)

from reticent.core.errors import BadInput
from reticent.privacy import noise
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.reference import ReferenceClipper
from reticent.privacy.plan import make_plan
from reticent.privacy.self_check import GuaranteeViolated
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import CONTEXT, tiny_model
from reticent.train.private.private_trainer import PrivateTrainerMixin

SMALL = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0}


class PrivateTrainer(PrivateTrainerMixin, Trainer):  # type: ignore[misc]
    pass


class Weighted(PrivateTrainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError


def records(longest: int = 12) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [{"input_ids": rng.integers(5, 250, size=rng.integers(2, longest + 1)).tolist()} for _ in range(20)]


def trainer(model: Any, out: Path, data: Any = None, *, kind: Any = PrivateTrainer, **spec: Any) -> Any:
    args = TrainingArguments(
        output_dir=str(out),
        max_grad_norm=0.0,
        learning_rate=1e-3,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    settled = PrivacySpec(**({"noise_multiplier": 1.0, "clip_norm": 0.5} | spec))
    return kind(
        model=model,
        args=args,
        train_dataset=data or records(),
        plan=lambda people: make_plan(settled, people, batch_size=8, steps=3, key=bytes(range(32))),
    )


def opt() -> Any:
    torch.manual_seed(0)
    return OPTForCausalLM(OPTConfig(ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=64, **SMALL))


def mixtral() -> Any:
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(num_local_experts=3, intermediate_size=16, num_key_value_heads=1, **SMALL))


def dora() -> Any:
    torch.manual_seed(0)
    return get_peft_model(
        tiny_model(), LoraConfig(task_type="CAUSAL_LM", r=2, use_dora=True, target_modules=["q_proj"])
    )


def lora(model: Any, **more: Any) -> Any:
    return get_peft_model(
        model, LoraConfig(**({"task_type": "CAUSAL_LM", "r": 2, "target_modules": "all-linear"} | more))
    )


@pytest.mark.parametrize(
    ("make", "clipper"),
    [
        (opt, BookkeepingClipper),
        (lambda: lora(opt()), BookkeepingClipper),
        (dora, ReferenceClipper),
        (mixtral, ReferenceClipper),
    ],
)
def test_trained_to_the_end_with_all_checks_passed(make: Any, clipper: Any, tmp_path: Path) -> None:
    one = trainer(make(), tmp_path)
    assert type(one.clipper) is clipper
    one.train()
    one.save_model(str(tmp_path / "model"))
    one.verify_saved(tmp_path / "model")
    assert all(check.passed is not False for check in one.checks)
    assert one.state.global_step == 3


def test_experts_that_were_not_saved_are_missed(tmp_path: Path) -> None:
    """The library stores each expert's matrices for themselves; one is lost, one is another."""
    one = trainer(mixtral(), tmp_path)
    one.train()
    one.save_model(str(tmp_path / "model"))
    (path,) = (tmp_path / "model").glob("*.safetensors")
    stored = load_file(path)
    name = next(name for name in stored if ".experts.1." in name)
    for tensors in (
        {key: tensor for key, tensor in stored.items() if key != name},
        stored | {name: stored[name] + 1e-3 * (torch.arange(stored[name].numel()) > 7).view(stored[name].shape)},
    ):
        save_file(tensors, path)
        with pytest.raises(GuaranteeViolated, match=r"1 of \d+ trained parameters, model\.layers\.0\.mlp\.experts"):
            one.verify_saved(tmp_path / "model")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: BertForMaskedLM(BertConfig(intermediate_size=16, **SMALL)), "a masked language model"),
        (lambda: torch.compile(tiny_model()), "compiled by torch.compile"),
        (
            lambda: lora(
                T5ForConditionalGeneration(
                    T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
                ),
                task_type="SEQ_2_SEQ_LM",
            ),
            "an encoder-decoder",
        ),
        (
            lambda: LlamaForSequenceClassification(tiny_model().config),
            "a sequence classifier",
        ),
    ],
)
def test_wrong_models_are_refused_before_the_first_step(make: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why):
        trainer(make(), tmp_path)


def test_a_label_for_each_record_instead_of_each_token_is_another_task(tmp_path: Path) -> None:
    data = [{**one, "labels": 1} for one in records()]
    with pytest.raises(BadInput, match=r"1 label for \d+ tokens: is for another task"):
        trainer(LlamaForSequenceClassification(tiny_model().config), tmp_path, data)


def test_records_longer_than_the_context_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"longer than the model's context of {CONTEXT}"):
        trainer(tiny_model("gpt2"), tmp_path, [*records(), {"input_ids": [7] * (CONTEXT + 1)}])


def test_an_overridden_compute_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="compute_loss of Weighted: is never called"):
        trainer(tiny_model(), tmp_path, kind=Weighted)


def test_embeddings_that_are_scaled_by_a_number(tmp_path: Path) -> None:
    shape = {"vocab_size": 300, "d_model": 16, "ffn_dim": 16, "num_layers": 1, "attention_heads": 2}
    one = trainer(XGLMForCausalLM(XGLMConfig(max_position_embeddings=64, **shape)), tmp_path)
    assert type(one.clipper) is BookkeepingClipper
    one.train()
    assert all(check.passed is not False for check in one.checks)


def test_a_machine_without_a_compiler_trains_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same noise, up to rounding."""

    def weights(name: str) -> list[torch.Tensor]:
        one = trainer(tiny_model(), tmp_path / name)
        one.train()
        assert all(check.passed is not False for check in one.checks)
        return [parameter.detach().clone() for parameter in one.model.parameters()]

    here = weights("here")
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    for found in (noise.load_kernel, noise.why_no_kernel):
        found.cache_clear()
    try:
        there = weights("there")
    finally:
        for found in (noise.load_kernel, noise.why_no_kernel):
            found.cache_clear()
    assert "drawn by the reference" in capsys.readouterr().err
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
