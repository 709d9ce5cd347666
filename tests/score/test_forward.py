# SPDX-License-Identifier: Apache-2.0
"""Body and head apart give the model's own logits, for every kind of model, or whole logits are taken."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from reticent.core.errors import BadInput
from reticent.models.output_layer import hidden_states
from reticent.score.forward import chunk_rows, most_read, open_forward
from reticent.testing.tiny import tiny_model

VOCABULARY = 120
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def qwen():
    return Qwen2ForCausalLM(Qwen2Config(**SMALL))


def gemma():
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, final_logit_softcapping=3.0))


def granite():
    return GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=8.0))


def cohere():
    return CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25))


def gptj():
    model = GPTJForCausalLM(
        GPTJConfig(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=4, rotary_dim=4)
    )
    torch.nn.init.normal_(model.lm_head.bias)
    return model


def lora_on_everything():
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    return model


def lora_on_the_head():
    return get_peft_model(tiny_model(tied=False), LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights=False))


def head_saved_apart():
    model = get_peft_model(tiny_model(tied=False), LoraConfig(r=4, modules_to_save=["lm_head"]))
    with torch.no_grad():
        model.get_output_embeddings().modules_to_save["default"].weight.mul_(2)
    return model


def prefix():
    return get_peft_model(tiny_model(), PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"))


def prompt():
    return get_peft_model(tiny_model(), PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"))


MODELS = {
    make.__name__: make
    for make in (qwen, gemma, granite, cohere, gptj, lora_on_everything, lora_on_the_head, head_saved_apart, prefix)
} | {"prompt": prompt, "llama": tiny_model, "gpt2": lambda: tiny_model("gpt2")}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", MODELS)
def test_logits_in_a_padded_batch_are_the_models_own(name):
    model = MODELS[name]().eval()
    forward = open_forward(model, name)
    assert forward.head is not None
    assert forward.path == "output layer in chunks"
    texts = [torch.randint(100, (length,)) for length in (13, 9, 1)]
    batch = torch.zeros(3, 13, dtype=torch.long)
    for row, text in enumerate(texts):
        batch[row, : len(text)] = text
    where = torch.tensor([0, 5, 12, 13, 21, 26])
    alone = []
    with torch.inference_mode():
        for text in texts:
            ids = text[None]
            alone.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(text) :])
        found = torch.cat([part.clone() for _, part in forward.logits_at(batch, where)])
    truth = torch.stack([alone[0][0], alone[0][5], alone[0][12], alone[1][0], alone[1][8], alone[2][0]])
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=1e-4)
    assert not model.get_output_embeddings()._forward_pre_hooks


class Shifted(torch.nn.Module):
    """A model whose logits are not its output layer's: nothing in its configuration says so."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_model()
        self.config = self.inner.config

    def get_input_embeddings(self):
        return self.inner.get_input_embeddings()

    def get_output_embeddings(self):
        return self.inner.get_output_embeddings()

    def forward(self, **inputs):
        out = self.inner(**inputs)
        out.logits = out.logits.sin() * 3
        return out


def test_a_model_that_does_more_than_its_head_is_taken_whole():
    model = Shifted().eval()
    forward = open_forward(model, "odd")
    assert forward.path == "whole logits"
    ids = torch.randint(100, (2, 7))
    with torch.inference_mode():
        (some, found), *rest = forward.logits_at(ids, torch.tensor([3, 9]))
        whole = model(input_ids=ids).logits
    assert not rest
    assert some == slice(0, 2)
    torch.testing.assert_close(found, torch.stack([whole[0, 3], whole[1, 2]]))


def test_a_wrong_scale_is_found_out(monkeypatch):
    model = granite()
    monkeypatch.setattr(model.config, "logits_scaling", 4.0)
    assert open_forward(model.eval(), "granite").head is not None  # the model reads the same setting
    model.forward = lambda original=model.forward, **inputs: _half(original(**inputs))
    assert open_forward(model.eval(), "granite").head is None


def _half(out):
    out.logits = out.logits / 2
    return out


class Backwards(Shifted):
    """A model that sees what comes next."""

    def forward(self, input_ids, **inputs):
        out = self.inner(input_ids=input_ids.flip(1), **inputs)
        out.logits = out.logits.flip(1)
        return out


def test_a_model_that_is_not_causal_is_refused():
    with pytest.raises(BadInput, match="odd: gives a token other logits when something follows"):
        open_forward(Backwards().eval(), "odd")


def test_weights_that_are_not_finite_are_refused():
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0] = float("nan")
    with pytest.raises(BadInput, match="not numbers"):
        open_forward(model, "diverged")


def test_the_chunks_cover_every_place_once():
    model = tiny_model(vocab_size=30_000)
    rows = chunk_rows(30_000, 4, "cpu")
    forward = open_forward(model, "big")
    ids = torch.randint(300, (4, 128))
    where = torch.arange(4 * 128)
    with torch.inference_mode():
        parts = [(some, part.shape[0]) for some, part in forward.logits_at(ids, where)]
    assert len(parts) == -(-512 // rows) > 1
    assert [i for some, _ in parts for i in range(some.start, some.stop)] == list(range(512))
    assert all(some.stop - some.start == size <= rows for some, size in parts)


def test_hidden_states_leave_the_head_unfed():
    model = tiny_model()
    sizes = []
    handle = model.lm_head.register_forward_hook(lambda module, args, out: sizes.append(out.shape[1]))
    hidden = hidden_states(model, model.lm_head, torch.randint(100, (2, 6)))
    handle.remove()
    assert sizes == [0]
    assert hidden.shape == (2, 6, 32)


def test_most_read_leaves_room_for_virtual_tokens():
    assert most_read(tiny_model()) == 512
    assert most_read(prompt()) == 507
    assert chunk_rows(10**7, 4, "cpu") == 32
