# SPDX-License-Identifier: Apache-2.0
"""Models, tasks and trainers that private training is not for are refused in one sentence each; others pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import (
    BartConfig,
    BartForCausalLM,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForTokenClassification,
    BertLMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
)
from trl import DPOTrainer, SFTTrainer

from reticent.privacy.refuse import TrainingSetup, violations
from reticent.testing.tiny import CONTEXT, tiny_model
from reticent.train.loop import TuneTrainer
from reticent.train.private.private_trainer import PrivateTrainerMixin
from reticent.train.private.train import PrivateTuneTrainer

BERT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
}
BART = {
    "vocab_size": 40,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}
T5 = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}


def found(model: Any, **more: Any) -> list[Any]:
    return violations(TrainingSetup(args=SimpleNamespace(), model=model, **more))


def only(model: Any, **more: Any) -> str:
    (one,) = found(model, **more)
    assert one.why
    assert one.fix.endswith((".", ")."))
    return f"{one.given}: {one.why}"


def llama(**more: Any) -> Any:
    shape = BERT | {"num_key_value_heads": 1}
    return LlamaConfig(**(shape | more))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BertForMaskedLM(BertConfig(**BERT)), "a masked language model"),
        (lambda: BertForTokenClassification(BertConfig(**BERT)), "a token classifier"),
        (lambda: BertForQuestionAnswering(BertConfig(**BERT)), "a question answering model"),
        (lambda: LlamaForSequenceClassification(llama(pad_token_id=0)), "a sequence classifier"),
        (lambda: T5ForConditionalGeneration(T5Config(**T5)), "an encoder-decoder"),
        (lambda: BartForConditionalGeneration(BartConfig(**BART)), "an encoder-decoder"),
        (lambda: BertLMHeadModel(BertConfig(**BERT)), "sees the tokens to come"),
    ],
)
def test_wrong_tasks(make: Any, said: str) -> None:
    assert said in only(make())


def test_wrong_tasks_under_an_adapter() -> None:
    t5 = get_peft_model(
        T5ForConditionalGeneration(T5Config(**T5)), LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"])
    )
    assert "an encoder-decoder" in only(t5)
    headless = LlamaForCausalLM(llama())
    assert "a token classifier" in only(get_peft_model(headless, LoraConfig(task_type="TOKEN_CLS", r=2)))


@pytest.mark.parametrize(
    "make",
    [
        tiny_model,
        lambda: tiny_model("gpt2"),
        lambda: BertLMHeadModel(BertConfig(is_decoder=True, **BERT)),
        lambda: BartForCausalLM(BartConfig(**BART)),  # leaves the shift to the labels
        lambda: MixtralForCausalLM(MixtralConfig(num_local_experts=2, num_key_value_heads=1, **BERT)),
        lambda: get_peft_model(tiny_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)),
        lambda: tiny_model().train(),
        lambda: tiny_model().to(torch.bfloat16).requires_grad_(False),
    ],
)
def test_causal_language_models_pass(make: Any) -> None:
    assert found(make(), rows=[[1, 2, 3]]) == []


def test_looking_leaves_the_model_and_the_random_state_alone() -> None:
    model = tiny_model().train()
    model.model.norm.eval()
    before = torch.get_rng_state()
    assert found(model) == []
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert not model.model.norm.training
    assert all(p.grad is None for p in model.parameters())


class Peeking(LlamaForCausalLM):
    """Named as a causal model; each place is told a little of the last token."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(*args, **kwargs)
        out.logits = out.logits + 0.01 * out.logits[:, -1:]
        return out


class Twofold(LlamaForCausalLM):
    """Its own loss is more than the next token's cross-entropy."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(*args, **kwargs)
        if out.loss is not None:
            out.loss = out.loss + out.logits.square().mean() + 1
        return out


class Picky(LlamaForCausalLM):
    def forward(self, *args: Any, pixel_values: Any = None, **kwargs: Any) -> Any:
        if self.training and pixel_values is None:
            raise ValueError("pixel_values are needed in training\nand more")
        return super().forward(*args, **kwargs)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Peeking, "sees the tokens to come"), (Twofold, "own loss is"), (Picky, "ValueError: pixel_values are needed")],
)
def test_what_a_name_does_not_say(kind: Any, said: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert said in only(kind(llama(initializer_range=0.2)))


def test_compiled_models() -> None:
    assert "torch.compile" in only(torch.compile(tiny_model()))
    inside = tiny_model()
    inside.model.layers[0].compile()
    assert "model.layers.0" in only(inside)


# ---- trainers -------------------------------------------------------------------------------------------------------


class Mine(Trainer):  # type: ignore[misc]
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return 0


class PrivateMine(PrivateTrainerMixin, Mine):  # type: ignore[misc]
    pass


class PrivateDPO(PrivateTrainerMixin, DPOTrainer):  # type: ignore[misc]
    pass


class PrivateSFT(PrivateTrainerMixin, SFTTrainer):  # type: ignore[misc]
    pass


class PrivatePlain(PrivateTrainerMixin, Trainer):  # type: ignore[misc]
    pass


@pytest.mark.parametrize("kind", [PrivateMine, PrivateDPO])
def test_a_loss_of_one_s_own_would_never_be_called(kind: Any) -> None:
    assert "compute_loss of" in only(tiny_model(), trainer=object.__new__(kind))


@pytest.mark.parametrize("kind", [PrivatePlain, PrivateSFT, PrivateTuneTrainer, TuneTrainer])
def test_trainers_with_the_plain_loss_pass(kind: Any) -> None:
    assert found(tiny_model(), trainer=object.__new__(kind)) == []


def test_a_loss_that_is_set_on_the_trainer() -> None:
    trainer = object.__new__(PrivatePlain)
    trainer.compute_loss = lambda *args: 0
    assert "set on the trainer" in only(tiny_model(), trainer=trainer)


# ---- records --------------------------------------------------------------------------------------------------------


def test_records_beyond_the_context() -> None:
    assert found(tiny_model("gpt2"), rows=[[1] * CONTEXT]) == []
    assert f"context of {CONTEXT}" in only(tiny_model("gpt2"), rows=[[1] * (CONTEXT + 1), [2]])
    prompt = get_peft_model(tiny_model("gpt2"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert "behind 3 virtual ones" in only(prompt, rows=[[1] * (CONTEXT - 2)])
    rotary = get_peft_model(tiny_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert found(rotary, rows=[[1] * CONTEXT]) == []  # has no table of positions that would end


def test_what_is_no_model_of_the_library_is_not_tried() -> None:
    assert found(nn.Linear(3, 3), rows=[[10**9]]) == []
